from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mathquarry.models.hardware import GPU, GPUS, TRAIN_UTILISATION
from mathquarry.models.memory import (
    HALF_BYTES,
    PASS_SHARE,
    Engine,
    Shape,
    default_pass_tokens,
    engine_share,
    grpo_step,
    pass_bytes,
    supervised_memory,
)
from mathquarry.models.plan.cpu_rates import measured_cpu
from mathquarry.models.plan.plan import STATE_BYTES, Planner
from mathquarry.models.policy.checkpoint import new_policy
from mathquarry.models.policy.config import ModelShape, PretrainedModel, ScratchModel
from mathquarry.models.policy.tokenizer import train_tokenizer
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.reward.config import RefreshConfig, RewardConfig
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import OptimizerConfig, PretrainConfig, SFTConfig

H100 = GPUS["h100"]
SEVEN = ModelShape(layers=30, hidden=4096, heads=32, intermediate=11008, vocabulary=102_400)
SHAPE = Shape.planned(PretrainedModel(shape=SEVEN))
P = SHAPE.weights


def planner() -> Planner:
    return Planner(SHAPE, H100)


def on(ranks: int) -> RanksConfig:
    return RanksConfig(processes=ranks)


def test_the_weights_of_a_model_from_scratch_and_its_flops_are_those_of_the_real_one() -> None:
    config = ScratchModel(layers=4, hidden=256, heads=4, intermediate=704, vocabulary=300)
    tokenizer = train_tokenizer(["one plus one is two " * 20] * 4, config.vocabulary)
    model = new_policy(config, tokenizer, seed=0)
    model.set_attn_implementation("eager")  # the counter does not see the fused one
    shape = Shape.planned(config)
    real = sum(weight.numel() for weight in model.parameters())
    missing = (config.vocabulary - len(tokenizer)) * 2 * config.hidden  # the text above has not that many tokens
    assert shape.weights == real + missing
    tokens_BT = torch.zeros((1, 256), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens_BT, labels=tokens_BT, use_cache=False).loss.backward()
    # The counter sees a whole T x T attention, the plan half of it; looking embeddings up costs nothing, which the plan leaves in.
    assert counter.get_total_flops() / 256 == pytest.approx(shape.train_flops(2 * 256), rel=0.03)


def test_a_pretrained_models_shape_comes_from_its_number_of_weights() -> None:
    shape = Shape.planned(PretrainedModel(parameters=6.91e9))
    assert (round(shape.layers), round(shape.hidden, -2)) == (33, 4200)
    assert 12 * shape.layers * shape.hidden**2 == pytest.approx(6.91e9)
    assert Shape.planned(PretrainedModel()).weights == 0


def test_a_stated_shape_has_the_weights_of_the_real_model() -> None:
    assert pytest.approx(6.91e9, rel=1e-3) == P
    grouped = ModelShape(layers=28, hidden=1536, heads=12, kv_heads=2, intermediate=8960, vocabulary=151_936)
    shape = Shape.planned(PretrainedModel(shape=grouped))
    assert shape.weights == pytest.approx(1.5437e9 + 151_936 * 1536, rel=1e-3)  # with a head of its own
    assert shape.cache_bytes == 2 * 28 * 2 * 128 * HALF_BYTES


def test_the_papers_pretraining_costs_six_flops_a_weight_and_token_and_attention() -> None:
    row = planner().trained("pretrain", PretrainConfig(micro_batch_rows=64, ranks=on(8)), 5e11)
    assert row.flops == pytest.approx(6 * P * 5e11 + 6 * 30 * 4096 * 4096 * 5e11)
    assert row.limit == "arithmetic"
    assert row.hours == pytest.approx(row.flops / (8 * 989e12 * TRAIN_UTILISATION) / 3600)
    recomputed = planner().trained("pretrain", PretrainConfig(micro_batch_rows=64, ranks=on(8), gradient_checkpointing=True), 5e11)
    assert recomputed.hours == pytest.approx(4 / 3 * row.hours)


def test_one_gpu_sends_nothing_and_many_share_weights_gradients_and_moments() -> None:
    alone, shared = (planner().trained("pretrain", PretrainConfig(ranks=on(count)), 1e9) for count in (1, 64))
    assert alone.network == 0
    # What is shared is a 64th; gathered embeddings, heads and blocks are whole on each, and one GPU keeps copies of blocks in bfloat16.
    assert 16 * P * 63 / 64 < alone.memory - shared.memory < 18 * P
    # A step of 10M tokens in rows of 4K is 38.1 passes on 64 GPUs; each moves 8 bytes a weight, and those outside the blocks once.
    assert shared.network == pytest.approx(100 * (1e7 / (64 * 4096)) * (63 / 64) * 8 * P)
    assert shared.limit == "network"


def test_larger_micro_batches_send_less_and_hold_more() -> None:
    one, four = (planner().trained("pretrain", PretrainConfig(micro_batch_rows=rows, ranks=on(64)), 1e9) for rows in (1, 4))
    assert four.network == pytest.approx(one.network / 4)
    assert four.memory > one.memory


def test_checkpoints_hold_weights_and_two_moments() -> None:
    row = planner().trained("sft", PretrainConfig(checkpoint_steps=10), 100 * 1e7)
    assert row.written == 10 * STATE_BYTES * P


def test_few_sequences_are_limited_by_reading_weights_and_many_by_arithmetic() -> None:
    few = Planner(replace(SHAPE, key=1e-3), H100)  # hardly any cache, so that only the weights count
    weights = few.shape.weights
    assert few.generation_seconds(1, 0, 100, 1, 72e9) == pytest.approx(100 * 2 * weights / (3.35e12 * 0.6), rel=1e-3)
    arithmetic = 1e8 * few.shape.forward_flops(50) / (989e12 * 0.3)
    assert few.generation_seconds(1e6, 0, 100, 1, 72e9) == pytest.approx(arithmetic, rel=1e-3)
    eight, one = planner().generation_seconds(8e4, 100, 100, 8, 72e9), planner().generation_seconds(1e4, 100, 100, 1, 72e9)
    assert eight == pytest.approx(one)
    assert planner().generation_seconds(0, 100, 100, 8, 72e9) == 0


def test_a_smaller_share_of_the_card_holds_fewer_sequences_and_takes_longer() -> None:
    assert Engine(SHAPE, 36e9).cache_tokens == pytest.approx((36e9 - 2 * P - 3e9) / (4 * 30 * 4096))
    assert Engine(SHAPE, 10e9).cache_tokens == 0
    small, large = (planner().generation_seconds(1e4, 300, 300, 1, share) for share in (20e9, 72e9))
    assert small > large


def test_on_a_cpu_the_head_computes_smaller_chunks_and_no_engine_shares_the_card() -> None:
    config = SFTConfig(precision="float32", micro_batch_rows=1)
    gpu, cpu = (supervised_memory(config, SHAPE, card) for card in (80e9, None))
    rows = min(4096, 80e9 / 256 / 4 / SHAPE.vocabulary) - min(4096, 2**24 / SHAPE.vocabulary)
    assert gpu - cpu == pytest.approx(4 * SHAPE.vocabulary * rows, rel=1e-6)
    rollout = RolloutConfig(engine="vllm")
    assert engine_share(rollout, 80e9) > engine_share(rollout, None) == 0


def test_process_rewards_cost_the_completions_of_every_step() -> None:
    outcome = planner().rewarded("reward-0", RewardConfig(supervision="outcome"), 1000, 1)
    process = planner().rewarded("reward-0", RewardConfig(), 1000, 1)
    solutions = 1000 * 15
    assert process.tokens - outcome.tokens == pytest.approx(solutions * 6 * 8 * 0.3 * 1024 / 2)
    assert process.hours > outcome.hours


def test_a_refresh_on_rollouts_samples_no_solutions_and_trains_on_those_of_the_iteration() -> None:
    reward, grpo = RewardConfig(supervision="outcome"), GRPOConfig(steps=100)
    sampled = planner().refreshed("reward-1", reward, RefreshConfig(questions=1000), grpo)
    rollouts = planner().refreshed("reward-1", reward, RefreshConfig(questions=1000, data="rollouts"), grpo)
    answer = 0.3 * 1024
    assert sampled.tokens == pytest.approx(1000 * 15 * 3 * answer)
    assert rollouts.tokens == pytest.approx(1000 * 64 * 2 * answer)
    few = planner().refreshed("reward-1", reward, RefreshConfig(questions=8192, data="rollouts"), grpo)
    assert few.tokens == pytest.approx(100 * 16 * 64 * 2 * answer)


def test_an_iteration_of_grpo_hands_its_weights_over_at_every_step_and_rules_need_no_reward_model() -> None:
    config = GRPOConfig()
    row = planner().reinforced("grpo-1", config)
    assert row.network == pytest.approx(4500 * 2 * P)
    rule = planner().reinforced("grpo-1", config.model_copy(update={"paradigm": config.paradigm.model_copy(update={"reward": "rule"})}))
    table = SHAPE.vocabulary * SHAPE.hidden
    assert row.memory - rule.memory == pytest.approx(2 * 30 * SHAPE.block + 4 * table)
    assert rule.hours < row.hours


def test_a_prompt_counts_once_for_the_completions_that_share_a_pass_with_it() -> None:
    rule = GRPOConfig().paradigm.model_copy(update={"reward": "rule"})
    config = GRPOConfig(paradigm=rule, steps=1, prompts_per_step=1, group_size=8, micro_batch_tokens=16_384)
    answer = 0.3 * 1024  # prompts are as long
    sequence = 4 * SHAPE.forward_flops(2 * answer)  # of the reference, and three times that for the update
    sampled = 8 * answer * SHAPE.forward_flops(2 * answer)

    def spent(config: GRPOConfig) -> float:
        return planner().reinforced("grpo-1", config).flops - sampled

    # The reference's attention is over half as many tokens, a hundredth of its work.
    assert spent(config) == pytest.approx((8 + 1) * answer * sequence, rel=0.01)
    assert spent(config.model_copy(update={"micro_batch_tokens": round(5 * answer)})) == pytest.approx(
        (8 + 2) * answer * sequence, rel=0.01
    )
    # FlashAttention sees every sequence with a prompt of its own.
    flash = config.model_copy(update={"attn_implementation": "flash_attention_2"})
    assert spent(flash) == pytest.approx(16 * answer * sequence, rel=0.01)


def test_a_cpu_has_its_own_shares_and_sizes_of_passes() -> None:
    cpu = GPU(3.5e11, 24e9, 1e10, 1e10, train_share=0.5, is_cpu=True)
    config = SFTConfig(precision="float32", micro_batch_rows=1)
    row = Planner(SHAPE, cpu).trained("sft", config, 1e6)
    assert row.hours == pytest.approx(row.flops / (3.5e11 * 0.5) / 3600)
    assert row.memory == supervised_memory(config, SHAPE, None)
    rollout = RolloutConfig(engine="vllm")
    assert (
        Planner(SHAPE, cpu).reinforced("grpo", GRPOConfig(rollout=rollout)).memory == grpo_step(GRPOConfig(rollout=rollout), SHAPE, None)[1]
    )


def test_processes_on_one_machine_share_it_and_gpus_add_up() -> None:
    cpu = Planner(SHAPE, GPU(3.5e11, 24e9, 1e10, 1e12, is_cpu=True))
    config = SFTConfig(precision="float32", micro_batch_rows=1)
    one, two = (cpu.trained("sft", config.model_copy(update={"ranks": on(count)}), 1e6) for count in (1, 2))
    assert two.hours == pytest.approx(one.hours)
    half = planner().trained("sft", config.model_copy(update={"ranks": on(2)}), 1e6).hours
    assert half == pytest.approx(planner().trained("sft", config, 1e6).hours / 2)
    small = replace(SHAPE, key=1e-3)  # caches that hold every completion on one process and on two
    shared = Planner(replace(small, layers=2), GPU(3.5e11, 240e9, 1e12, 1e12, is_cpu=True))
    assert shared.sampled("evaluate", 1e4, 300, 300, 2).hours == pytest.approx(shared.sampled("evaluate", 1e4, 300, 300, 1).hours)
    assert cpu.scored_seconds(1e6, 100, 2) == cpu.scored_seconds(1e6, 100, 1)


def test_the_rates_of_this_machine_are_plausible() -> None:
    found = measured_cpu(24e9)
    assert found.is_cpu
    assert found.memory == 24e9
    assert found.card is None
    assert 1e8 < found.flops < 1e15
    assert 1e8 < found.bandwidth < 1e13


def test_what_saves_memory_is_seen_in_the_plan() -> None:
    plain = GRPOConfig(ranks=on(8), micro_batch_tokens=8192, rollout=RolloutConfig(engine="vllm"))
    base = planner().reinforced("grpo", plain).memory
    recomputed = planner().reinforced("grpo", plain.model_copy(update={"gradient_checkpointing": True})).memory
    offloaded = planner().reinforced("grpo", plain.model_copy(update={"optimizer": OptimizerConfig(offload=True)})).memory
    asleep = planner().reinforced("grpo", plain.model_copy(update={"rollout": RolloutConfig(engine="vllm", sleep=True)})).memory
    assert base - offloaded == pytest.approx(8 * P / 8)
    assert recomputed < 0.6 * base
    assert asleep < base


@pytest.mark.parametrize("recompute", [True, False])
def test_tokens_of_a_pass_take_their_share_of_the_card(recompute: bool) -> None:
    config = GRPOConfig(gradient_checkpointing=recompute)
    tokens = default_pass_tokens(config, SHAPE, 80e9)
    assert tokens % 1024 == 0
    assert 0.5 * PASS_SHARE * 80e9 < tokens * pass_bytes(SHAPE, "bfloat16", recompute) <= PASS_SHARE * 80e9
    assert default_pass_tokens(config, SHAPE, None) == 16_384
    assert default_pass_tokens(config, SHAPE, 1e9) == 1024
