"""Exports are self-contained: a model that transformers prompts as in training, a corpus that `datasets` opens, and their cards."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from mathquarry.data.store.store import Artifact
from mathquarry.flows.__main__ import main
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.policy.prompts import Prompter
from tests.flows.small_store import SECRET, make_store, write_policy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Artifact]]:
    root = tmp_path_factory.mktemp("store")
    return str(root), make_store(root)


@pytest.fixture(scope="module")
def exported(made: tuple[str, dict[str, Artifact]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "my-model"
    assert main(["export", "sft", str(folder), "--store", made[0], "--max-tokens", "64"]) == 0
    return folder


def front(folder: Path) -> tuple[dict, str]:
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def test_an_exported_policy_is_asked_as_in_training_by_transformers_alone(made: tuple[str, dict[str, Artifact]], exported: Path) -> None:
    policy = made[1]["sft"].path / "model"
    tokenizer = AutoTokenizer.from_pretrained(exported)
    question = "Tom has 3 pens and gets 4 more. How many pens does he have?"
    ids = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False)
    assert ids == Prompter.load(policy).encode(question)
    model = AutoModelForCausalLM.from_pretrained(exported)
    theirs, ours = model.state_dict(), load_policy(policy).state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    answer = pipeline("text-generation", str(exported))([{"role": "user", "content": question}])[0]["generated_text"][-1]
    assert answer["role"] == "assistant"


def test_the_generation_config_ends_answers_where_training_did_and_samples_nothing(exported: Path) -> None:
    config, tokenizer = GenerationConfig.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    assert config.eos_token_id == tokenizer.eos_token_id
    assert config.pad_token_id == tokenizer.pad_token_id
    assert not config.do_sample
    assert config.max_new_tokens == 64
    settings = json.loads((exported / "generation_config.json").read_text())
    assert not {"top_k", "top_p", "temperature", "repetition_penalty"} & {name for name, value in settings.items() if value is not None}


def test_all_end_tokens_of_a_chat_model_stay_and_its_sampling_does_not(tmp_path: Path) -> None:
    write_policy(tmp_path / "chat")
    other = {"eos_token_id": [5, 7], "temperature": 0.6, "top_k": 20, "do_sample": True}
    (tmp_path / "chat" / "generation_config.json").write_text(json.dumps(other))
    assert main(["export", str(tmp_path / "chat"), str(tmp_path / "out")]) == 0
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [1, 5, 7]
    assert not {"temperature", "top_k", "do_sample"} & settings.keys() or not settings.get("do_sample")
    assert settings.get("temperature") is None


def test_a_model_card_says_what_made_the_policy_what_it_scores_and_whose_terms_hold(
    made: tuple[str, dict[str, Artifact]], exported: Path
) -> None:
    head, text = front(exported)
    assert head["base_model"] == "some-org/base-model"
    assert head["pipeline_tag"] == "text-generation"
    assert all(made[1][stage].key in text for stage in ("sft", "mine", "crawl"))
    assert "25.0 ± 8.8 %" in text
    assert "strict" in text
    assert "lenient" in text
    assert "its licence applies" in text
    assert "GSM8K: MIT" in text
    assert "publishers" in text


def test_cards_tell_no_folder_of_this_machine(made: tuple[str, dict[str, Artifact]], exported: Path, tmp_path: Path) -> None:
    assert main(["export-corpus", "mine", str(tmp_path / "corpus"), "--store", made[0]]) == 0
    for folder in (exported, tmp_path / "corpus"):
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert SECRET not in text
        assert "a.warc.gz" in text


def test_the_weights_can_be_written_in_another_precision(made: tuple[str, dict[str, Artifact]], tmp_path: Path) -> None:
    assert main(["export", "sft", str(tmp_path / "half"), "--store", made[0], "--dtype", "bfloat16"]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.bfloat16}


def test_an_export_can_be_exported_and_asked_again(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(exported), str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "chat_template.jinja").read_text() == (exported / "chat_template.jinja").read_text()
    assert main(["sample", str(tmp_path / "again"), "1+1?", "--max-tokens", "5"]) == 0
    assert "vllm serve" in capsys.readouterr().out


def test_a_corpus_opens_with_datasets_and_lists_its_decontamination_without_the_benchmarks_words(
    made: tuple[str, dict[str, Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "corpus"
    assert main(["export-corpus", "mine", str(out), "--store", made[0]]) == 0
    pages = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert pages["url"] == [f"https://a.example/{number}" for number in (1, 2, 3)]
    assert pages[0]["formula_kinds"] == [{"kind": "mathml", "count": 1}]
    quotations = datasets.load_dataset(str(out), "decontamination", split="train", cache_dir=str(tmp_path / "cache"))
    assert quotations["problem"] == ["gsm8k-test-1"]
    assert json.loads((out / "decontamination.json").read_text())["totals"]["pages_dropped"] == 1
    assert "quote" not in pq.read_schema(out / "decontamination" / "quotations.parquet").names
    head, text = front(out)
    assert head["size_categories"] == ["n<1K"]
    assert "| gsm8k | 10 | 1 | 1 |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "sft", "TAKEN"], "exists already. Choose a new folder"),
        (["export", "reward", "NEW"], "artifact of stage reward, which does not make policies"),
        (["export", "nonsense", "NEW"], "knows no artifact"),
        (["export", "no/such/folder", "NEW"], "there is no folder no/such/folder"),
        (["export", "EMPTY", "NEW"], "a folder without config.json"),
        (["export", "sft", "NEW", "--push", "no-owner"], "write OWNER/NAME"),
        (["export", "sft", "NEW", "--push", "../up"], "write OWNER/NAME"),
        (["export", "sft", "NEW", "--max-tokens", "0"], "it must be at least 1"),
        (["export", "package:no_such_package", "NEW"], "that package is not installed"),
        (["export", "missing.gguf", "NEW"], "does not exist"),
        (["export-corpus", "sft", "NEW"], "choose one of stage mine"),
        (["sample", "sft", "  "], "the question is empty"),
        (["sample", "sft", "1+1?", "-n", "3"], "all answers would be the same"),
        (["sample", "sft", "1+1?", "-n", "0"], "-n is 0"),
        (["sample", "sft", "1+1? " * 2000], "context is 1024 tokens"),
        (["sample", "sft", "1+1?", "--temperature", "nan"], "--temperature is nan"),
        (["sample", "sft", "1+1?", "--prompts", "own"], "has no chat template"),
    ],
)
def test_what_cannot_be_exported_or_asked_is_one_line(
    arguments: list[str], message: str, made: tuple[str, dict[str, Artifact]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    (tmp_path / "empty").mkdir()
    places = {"TAKEN": tmp_path / "taken", "NEW": tmp_path / "new", "EMPTY": tmp_path / "empty"}
    assert main([*(str(places.get(argument, argument)) for argument in arguments), "--store", made[0]]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "taken"]


def test_a_name_with_markup_stays_a_name_in_the_card(made: tuple[str, dict[str, Artifact]], tmp_path: Path) -> None:
    folder = tmp_path / "<b>x|y `z`\n# head"
    assert main(["export", "sft", str(folder), "--store", made[0]]) == 0
    head, text = front(folder)
    assert r"# \<b\>x\|y \`z\` \# head" in text
    assert head["library_name"] == "transformers"


def test_questions_come_from_lines_in_a_chat(exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("1+1?\n2+2?\n" + "1+1? " * 2000 + "\n3+3?\n"))
    assert main(["chat", str(exported), "--max-tokens", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.count("[cut after 3 tokens]") + out.count("\n") >= 3
    assert err.count("context is") == 1
