"""Adapters that vLLM applies to its original weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.adapters import Adapters, adapters_of, adapters_off, add_adapters
from mathquarry.models.policy.config import LoRAConfig
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rollout.handover.choice import make_handover
from mathquarry.models.rollout.hf import TransformersEngine
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.weight_check import check_weights
from tests.models.policy.test_adapters import learned
from tests.models.rollout.test_rollout_vllm import CONFIG, PROMPTS, agree, tiny_llama

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

ADAPTING = CONFIG.model_copy(update={"handover": "adapter"})
RANK = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("start")
    tiny_llama(0).save_pretrained(folder)
    engine = make_engine(ADAPTING, folder, live_model=tiny_llama(0), adapters=adapters_of(policy(0)))
    handover = make_handover(ADAPTING, engine, Ranks.current(), Workspace.at(tmp_path_factory.mktemp("room")).scratch)
    yield SimpleNamespace(engine=engine, hand_over=handover.hand_over, folder=handover.folder)
    engine.close()


def policy(seed: int, **changes: object) -> torch.nn.Module:
    """Adapters whose scale is not a power of two."""
    lora = LoRAConfig(**{"rank": RANK, "alpha": 7, **changes})
    return learned(add_adapters(tiny_llama(0), lora, seed=0), seed)


def test_the_engine_answers_for_the_adapters_that_it_was_given_last(made: SimpleNamespace) -> None:
    first, second = policy(1), policy(2)
    made.hand_over(first, "first")
    agree(made.engine, first)
    made.hand_over(second, "second")
    agree(made.engine, second)
    with pytest.raises(MathQuarryError, match="disagree"):
        agree(made.engine, first)
    assert not made.folder.exists()


def test_what_is_said_of_given_completions_is_reported_with_adapters(made: SimpleNamespace) -> None:
    model = policy(3)
    made.hand_over(model, "forced")
    completions = [prompt[:7] for prompt in PROMPTS]
    reference = TransformersEngine(CONFIG, model)
    for ours, theirs in zip(made.engine.logprobs(PROMPTS, completions), reference.logprobs(PROMPTS, completions), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_adapters_that_arrived_compare_equal_and_a_step_that_did_not_is_found(made: SimpleNamespace) -> None:
    model, ranks = policy(4), Ranks.current()
    made.hand_over(model, "compared")
    # A and B of the fourteen matrices; what stays: embeddings, head, norms and the matrices, some of them as one.
    assert check_weights(made.engine, model, ranks, "compared") == 2 * 14 + 2 + 5 + 8
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-6, weight_decay=0.0)
    model(input_ids=torch.tensor(PROMPTS[:1]), use_cache=False).logits.logsumexp(-1).sum().backward()
    optimizer.step()
    with pytest.raises(MathQuarryError, match=r"after the sync to missed.*lora_"):
        check_weights(made.engine, model, ranks, "missed")
    made.hand_over(model, "sent")
    check_weights(made.engine, model, ranks, "sent")


def test_named_layers_alone_and_no_adapters_at_all(made: SimpleNamespace) -> None:
    model = policy(5, target_modules=["q_proj", "down_proj"])
    made.hand_over(model, "some")
    agree(made.engine, model)
    assert check_weights(made.engine, model, Ranks.current(), "some") == 2 * 4 + 2 + 5 + 8
    with adapters_off(model):
        made.hand_over(model, "start")
    agree(made.engine, tiny_llama(0))


def test_a_rank_that_vllm_does_not_take_is_refused(tmp_path: Path) -> None:
    tiny_llama(0).save_pretrained(tmp_path)
    with pytest.raises(MathQuarryError, match="up to rank 512, but lora.rank is 600"):
        make_engine(ADAPTING, tmp_path, adapters=Adapters(600, ["q_proj"]))
