"""The training code runs at any size with fake tensors, and the plan's formulas match the memory that it then needs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.recipe import load_recipe
from mathquarry.models.card import planned_card
from mathquarry.models.memory import Shape, grpo_card, grpo_step, supervised_memory
from mathquarry.models.plan.check import _empty, architecture, check_grpo, check_recipe, check_supervised
from mathquarry.models.plan.tracker import MemoryTracker, fake_ranks, fake_tensors
from mathquarry.models.policy.config import LoRAConfig, ModelShape, PretrainedModel
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, shard
from mathquarry.models.reward.config import RewardConfig
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import OptimizerConfig, SFTConfig

SMALL = PretrainedModel(shape=ModelShape(layers=3, hidden=512, heads=8, kv_heads=2, intermediate=1408, vocabulary=8000))
CARD = 80e9


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "precision"), [(1, "float32"), (8, "bfloat16")])
@pytest.mark.parametrize(("recompute", "rank"), [(True, 0), (False, 0), (True, 16)])
def test_the_formula_is_that_of_the_code_with_and_without_ranks_recompute_and_adapters(
    ranks: int, precision: str, recompute: bool, rank: int
) -> None:
    how = {
        "ranks": RanksConfig(processes=ranks),
        "precision": precision,
        "gradient_checkpointing": recompute,
        "lora": LoRAConfig(rank=rank),
    }
    model, shape = architecture(SMALL), Shape.planned(SMALL)
    with planned_card(CARD):
        for config in (SFTConfig(**how, context_tokens=2048), RewardConfig(**how, context_tokens=2048)):
            assert supervised_memory(config, shape, CARD) == pytest.approx(check_supervised(config, model).peak, rel=0.15)
        grpo = GRPOConfig(**how, micro_batch_tokens=2048)
        found = check_grpo(grpo, model, 128, 256)
        rest, step = grpo_step(grpo, shape, CARD)
        assert step == pytest.approx(found.peak, rel=0.15)
        assert rest == pytest.approx(found.rest, rel=0.02)


def test_adapters_need_no_moments_of_other_weights_and_no_copy_of_the_policy() -> None:
    model, shape, lora = architecture(SMALL), Shape.planned(SMALL), LoRAConfig(rank=16)
    added = sum(parameter.numel() for parameter in _empty(model, lora).parameters() if parameter.requires_grad)
    assert shape.trained(lora) == added
    some = LoRAConfig(rank=4, target_modules=["q_proj", "down_proj"])
    assert shape.trained(some) == sum(parameter.numel() for parameter in _empty(model, some).parameters() if parameter.requires_grad)
    config = GRPOConfig(micro_batch_tokens=2048, rollout=RolloutConfig(engine="vllm"))
    with planned_card(CARD):
        full, adapted = (check_grpo(config.model_copy(update={"lora": one}), model, 128, 256) for one in (LoRAConfig(), lora))
    assert adapted.kinds["moments"] == pytest.approx(8 * added, rel=0.01)
    assert full.kinds["frozen"] - adapted.kinds["frozen"] == pytest.approx(2 * shape.weights + 2 * 8000 * 512, rel=0.01)


def test_an_engine_that_samples_ahead_has_a_second_copy_of_the_policy() -> None:
    model, shape = architecture(SMALL), Shape.planned(SMALL)
    config = GRPOConfig(micro_batch_tokens=2048, tis_cap=2.0)
    ahead = config.model_copy(update={"rollout": RolloutConfig(ahead=1)})
    with planned_card(CARD):
        alone, beside = (check_grpo(one, model, 128, 256) for one in (config, ahead))
    copy = pytest.approx(2 * shape.weights, rel=1e-5)  # the engine has a small buffer too
    assert beside.kinds["engine"] == copy
    assert beside.peak - alone.peak == beside.rest - alone.rest == copy
    assert grpo_card(ahead, shape, CARD) - grpo_card(config, shape, CARD) == copy
    # vLLM has its copy in its share of the GPU already.
    vllm, vllm_ahead = (config.model_copy(update={"rollout": RolloutConfig(engine="vllm", ahead=ahead)}) for ahead in (0, 1))
    assert grpo_card(vllm, shape, CARD) == grpo_card(vllm_ahead, shape, CARD)


def test_offloaded_moments_are_not_on_the_card() -> None:
    model, shape = architecture(SMALL), Shape.planned(SMALL)
    with planned_card(CARD):
        here, there = (check_supervised(SFTConfig(optimizer=OptimizerConfig(offload=offload)), model).peak for offload in (False, True))
    assert here - there == pytest.approx(8 * shape.weights, rel=0.01)


def test_the_tracker_finds_the_peak_of_pytorchs_own_in_one_pass() -> None:
    def loss(model: nn.Module, tokens_BT: torch.Tensor) -> torch.Tensor:
        return model(input_ids=tokens_BT, use_cache=False).logits.float().logsumexp(-1).sum()

    peaks = []
    for own in (True, False):
        model = _empty(architecture(SMALL))
        with fake_ranks(4), fake_tensors():
            module = ShardedModel(model, loss)
            shard(module, Ranks.current())
            tokens_BT = torch.ones(1, 1024, dtype=torch.int64)
            if own:
                tracker = MemoryTracker()
                tracker.count("weights", [*module.parameters(), *module.buffers(), tokens_BT])
                with tracker:
                    module(tokens_BT).backward()
                peaks.append(tracker.peak)
            else:
                theirs = FSDPMemTracker(module)
                theirs.track_inputs((tokens_BT,))
                with theirs:
                    module(tokens_BT).backward()
                (snapshot,) = theirs.get_tracker_snapshot("peak").values()
                peaks.append(snapshot["Total"])
    assert peaks[0] == pytest.approx(peaks[1], rel=0.01)


def test_the_tracker_knows_what_is_freed_and_of_which_kind_the_peak_was() -> None:
    tracker = MemoryTracker()
    held = torch.zeros(1000)
    tracker.count("held", [held, held.view(10, 100)])
    with tracker:
        for _ in range(3):
            torch.zeros(500) + 1.0
    assert tracker.peak == 4 * (1000 + 2 * 500)
    assert tracker.kinds["held"] == 4000


def test_a_rank_checks_no_plan() -> None:
    with fake_ranks(2), pytest.raises(MathQuarryError, match="is already a rank"), fake_ranks(2):
        pass


def test_a_model_without_a_stated_shape_cannot_be_checked() -> None:
    with pytest.raises(MathQuarryError, match=r"Set model\.shape"):
        architecture(PretrainedModel(path="somewhere"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "card"), [("tiny", CARD), ("math-1gpu", CARD), ("1b", CARD), ("paper-7b", CARD)])
def test_a_recipe_fits_its_cards_by_running_the_code_at_its_size(name: str, card: float) -> None:
    recipe = load_recipe(name)
    for one in check_recipe(recipe.model, recipe.pretrain, recipe.sft, recipe.reward, recipe.grpo, card):
        assert abs(one.error) <= 0.15, (one.stage, one.planned, one.found)
        assert one.needed <= 0.9 * card, (one.stage, one.needed)
        assert one.engine is None or one.engine.cache_tokens >= 8 * one.longest
