"""Models and texts from outside become artifacts whose key depends on their content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.hub_names import pinned_name
from mathquarry.data.files import read_json
from mathquarry.data.store.store import Store
from mathquarry.models.policy.checkpoint import load_policy, load_reward
from mathquarry.tasks.imports import import_corpus, import_model
from tests.models.rl.tiny import tiny_tokenizer

COMMIT = "5" * 40


def published(folder: Path, kind: type = LlamaForCausalLM, template: str | None = None, **config: int) -> Path:
    """A folder as another project publishes one: tied embeddings, bfloat16, none of our files."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        **config,
    )
    torch.manual_seed(3)
    kind(shape).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}"])
@pytest.mark.parametrize("chosen", [None, "paper"])
def test_a_policy_keeps_its_weights_and_is_asked_as_it_was_trained(
    tmp_path: Path, template: str | None, chosen: Literal["paper"] | None
) -> None:
    outside = published(tmp_path / "outside", template=template)
    made = import_model.fn(str(tmp_path / "store"), str(outside), "policy", chosen)
    folder = Store(tmp_path / "store").folder("import", made.key) / "model"
    tokens = torch.tensor([[1, 2, 3, 4]])
    expected = AutoModelForCausalLM.from_pretrained(outside, dtype=torch.float32)(tokens).logits
    assert torch.equal(load_policy(folder)(tokens).logits, expected)
    assert read_json(folder / "mathquarry.json")["prompt_style"] == ("own" if template and chosen is None else "paper")


def test_a_folder_is_known_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    outside = published(tmp_path / "outside")
    made = import_model.fn(store, str(outside), "policy")
    moved = shutil.copytree(outside, tmp_path / "elsewhere")
    again = import_model.fn(store, str(moved), "policy")
    assert (again.key, again.reused) == (made.key, True)
    (source,) = Store(store).get("import", made.key).manifest["sources"]
    assert (source["path"], len(source["sha256"])) == (str(outside), 64)
    settings = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**settings, "rope_theta": 1e5}))
    assert import_model.fn(store, str(moved), "policy").key != made.key


def in_the_hubs_cache(monkeypatch: pytest.MonkeyPatch, cache: Path, name: str) -> None:
    """`name` as in the cache after a download, with the network disabled."""
    place = cache / f"models--{name.replace('/', '--')}"
    published(place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    for module in ("huggingface_hub.constants", "transformers.utils.hub"):
        for variable in ("HF_HUB_CACHE", "TRANSFORMERS_CACHE"):
            monkeypatch.setattr(f"{module}.{variable}", str(cache), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_hub_name_is_the_commit_that_it_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_hubs_cache(monkeypatch, tmp_path / "cache", "owner/small")
    assert pinned_name("owner/small") == f"owner/small@{COMMIT}"
    made = import_model.fn(str(tmp_path / "store"), "owner/small", "policy")
    manifest = Store(tmp_path / "store").get("import", made.key).manifest
    assert manifest["config"]["model"] == f"owner/small@{COMMIT}"
    assert import_model.fn(str(tmp_path / "store"), f"owner/small@{COMMIT}", "policy").key == made.key


@pytest.mark.parametrize("name", ["owner/unknown", "gpt2", "a/b/c", "../x/y", "owner/name@branch", ""])
def test_a_model_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MathQuarryError, match=f"^{name}"):
        pinned_name(name)


def test_a_reward_model_from_outside_scores_as_it_did(tmp_path: Path) -> None:
    outside = published(tmp_path / "outside", LlamaForTokenClassification, num_labels=1)
    made = import_model.fn(str(tmp_path / "store"), str(outside), "reward")
    tokens = torch.tensor([[1, 2, 3]])
    folder = Store(tmp_path / "store").folder("import", made.key) / "model"
    torch.testing.assert_close(load_reward(folder)(tokens).logits, load_reward(outside)(tokens).logits)


@pytest.mark.parametrize(("holds", "labels"), [("policy", 1), ("reward", 2)])
def test_a_model_of_another_kind_is_refused(tmp_path: Path, holds: Literal["policy", "reward"], labels: int) -> None:
    outside = published(tmp_path / "outside", LlamaForTokenClassification, num_labels=labels)
    with pytest.raises(MathQuarryError, match=str(outside)):
        import_model.fn(str(tmp_path / "store"), str(outside), holds)
    assert not list((tmp_path / "store").glob("artifacts/*/*"))


def test_texts_become_a_corpus_that_pretraining_reads(tmp_path: Path) -> None:
    from mathquarry.data.texts.documents import read_documents

    lines = [{"text": f"text {number}", "other": 1} for number in range(2500)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = import_corpus.fn(str(tmp_path / "store"), str(tmp_path / "texts.jsonl"))
    folder = Store(tmp_path / "store").folder("import", made.key)
    assert sorted(read_documents(str(folder / "corpus" / "*.parquet"), 0)) == sorted(line["text"] for line in lines)
    assert made.summary["documents"] == 2500


def test_texts_without_the_column_are_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"content": "a"}\n')
    with pytest.raises(MathQuarryError, match=r"texts.jsonl, line 1 .* `text`"):
        import_corpus.fn(str(tmp_path / "store"), str(tmp_path / "texts.jsonl"))
