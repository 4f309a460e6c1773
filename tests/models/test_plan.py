from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.checkpoint import new_policy
from models.config import GRPOConfig, PretrainConfig, PretrainedModel, RewardConfig, ScratchModel
from models.hardware import GPUS, TRAIN_UTILISATION, Cluster
from models.plan import HALF_BYTES, STATE_BYTES, TRAIN_BYTES, Planner, Shape, shape_of
from models.tokenizer import train_tokenizer

H100 = GPUS["h100"]
SEVEN = Shape(7e9, 30, 4096)


def planner(gpus: int = 8) -> Planner:
    return Planner(SEVEN, Cluster(H100, gpus))


def test_the_weights_of_a_model_from_scratch_and_its_flops_are_those_of_the_real_one() -> None:
    config = ScratchModel(layers=4, hidden=256, heads=4, intermediate=704, vocabulary=300)
    tokenizer = train_tokenizer(["one plus one is two " * 20] * 4, config.vocabulary)
    model = new_policy(config, tokenizer, seed=0)
    model.set_attn_implementation("eager")  # the counter does not see the fused one
    shape = shape_of(config)
    real = sum(weight.numel() for weight in model.parameters())
    missing = (config.vocabulary - len(tokenizer)) * 2 * config.hidden  # the text above has not that many tokens
    assert shape.weights == real + missing
    tokens_BT = torch.zeros((1, 256), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens_BT, labels=tokens_BT, use_cache=False).loss.backward()
    # The counter sees a whole T x T attention, the plan half of it; looking embeddings up costs nothing, which the plan leaves in.
    assert counter.get_total_flops() / 256 == pytest.approx(shape.train_flops(2 * 256), rel=0.03)


def test_a_pretrained_models_shape_comes_from_its_number_of_weights() -> None:
    shape = shape_of(PretrainedModel(parameters=6.91e9))
    assert (round(shape.layers), round(shape.hidden, -2)) == (33, 4200)
    assert 12 * shape.layers * shape.hidden**2 == pytest.approx(6.91e9)
    assert shape_of(PretrainedModel()).weights == 0


def test_the_papers_pretraining_costs_six_flops_a_weight_and_token_and_attention() -> None:
    row = planner().trained("pretrain", PretrainConfig(micro_batch_rows=64), 5e11)
    assert row.flops == pytest.approx(6 * 7e9 * 5e11 + 6 * 30 * 4096 * 4096 * 5e11)
    assert row.limit == "arithmetic"
    assert row.hours == pytest.approx(row.flops / (8 * 989e12 * TRAIN_UTILISATION) / 3600)


def test_one_gpu_holds_everything_and_sends_nothing_and_many_share() -> None:
    config = PretrainConfig()
    alone, shared = (planner(count).trained("pretrain", config, 1e9) for count in (1, 64))
    assert alone.network == 0
    activations = alone.memory - TRAIN_BYTES * 7e9
    assert shared.memory == pytest.approx(TRAIN_BYTES * 7e9 / 64 + 2 * HALF_BYTES * 7e9 / 30 + activations)
    # A step of 10M tokens in rows of 4K is 38.1 passes on 64 GPUs; each moves 8 bytes a weight.
    assert shared.network == pytest.approx(100 * (1e7 / (64 * 4096)) * (63 / 64) * 8 * 7e9)
    assert shared.limit == "network"


def test_larger_micro_batches_send_less_and_hold_more() -> None:
    one, four = (planner(64).trained("pretrain", PretrainConfig(micro_batch_rows=rows), 1e9) for rows in (1, 4))
    assert four.network == pytest.approx(one.network / 4)
    assert four.memory > one.memory


def test_checkpoints_hold_weights_and_two_moments() -> None:
    row = planner().trained("sft", PretrainConfig(checkpoint_steps=10), 100 * 1e7)
    assert row.written == 10 * STATE_BYTES * 7e9


def test_few_sequences_are_limited_by_reading_weights_and_many_by_arithmetic() -> None:
    few = Planner(replace(SEVEN, layers=1e-3), Cluster(H100, 1))  # hardly any cache, so that only the weights count
    assert few.generation_seconds(1, 0, 100) == pytest.approx(100 * 2 * 7e9 / (3.35e12 * 0.6), rel=1e-3)
    assert few.generation_seconds(1e6, 0, 100) == pytest.approx(1e8 * 2 * 7e9 / (989e12 * 0.3), rel=1e-3)
    assert planner(8).generation_seconds(8e4, 100, 100) == pytest.approx(planner(1).generation_seconds(1e4, 100, 100))
    assert planner().generation_seconds(0, 100, 100) == 0


def test_process_rewards_cost_the_completions_of_every_step() -> None:
    outcome = planner().rewarded("reward-0", RewardConfig(supervision="outcome"), 1000, 1)
    process = planner().rewarded("reward-0", RewardConfig(), 1000, 1)
    solutions = 1000 * 15
    assert process.tokens - outcome.tokens == pytest.approx(solutions * 6 * 8 * 0.3 * 1024 / 2)
    assert process.hours > outcome.hours


def test_an_iteration_of_grpo_hands_its_weights_over_at_every_step_and_rules_need_no_reward_model() -> None:
    config = GRPOConfig()
    row = planner(1).reinforced("grpo-1", config)
    assert row.network == pytest.approx(4500 * HALF_BYTES * 7e9)
    rule = planner(1).reinforced("grpo-1", config.model_copy(update={"paradigm": config.paradigm.model_copy(update={"reward": "rule"})}))
    assert row.memory - rule.memory == 4 * 7e9
    assert rule.hours < row.hours
