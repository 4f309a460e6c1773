"""Our GRPO update against TRL's GRPOTrainer, configured as in the paper and as each preset, on identical completions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import GRPOConfig as TRLConfig
from trl import GRPOTrainer

from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.rl.advantages import outcome_advantages, pad_steps, process_advantages
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.presets import PRESETS
from mathquarry.models.rl.update import Experience, sequence_logprobs, update_policy
from mathquarry.models.train.config import OptimizerConfig
from tests.models.rl.tiny import tiny_policy, tiny_tokenizer

GENERATOR = torch.Generator().manual_seed(7)
PROMPTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (5, 5, 5, 9, 9, 9)]
COMPLETIONS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (4, 8, 1, 6, 11, 3)]
LENGTHS_B = torch.tensor([len(completion) for completion in COMPLETIONS])
PAPER = GRPOConfig(precision="float32", optimizer=OptimizerConfig(grad_clip=1e9))


def outcome() -> torch.Tensor:
    return outcome_advantages(torch.rand(6, generator=GENERATOR), LENGTHS_B, 3)


def process() -> torch.Tensor:
    ends = [[1, 3], [2, 5, 7], [0], [5], [3, 10], [0, 2]]
    rewards = [torch.rand(len(row), generator=GENERATOR).tolist() for row in ends]
    return process_advantages(pad_steps(rewards, 0.0), pad_steps(ends, -1), LENGTHS_B, 3)


def trl_trainer(policy: PreTrainedModel, folder: Path, **settings: object) -> GRPOTrainer:
    config = TRLConfig(
        output_dir=str(folder),
        **{"loss_type": "grpo", "beta": PAPER.kl_coef, "epsilon": PAPER.clip_low, **settings},
        num_generations=6,
        per_device_train_batch_size=6,
        gradient_accumulation_steps=1,
        use_cpu=True,
        bf16=False,
        use_bias_correction_kl=False,  # TRL's default multiplies the KL term with the ratio, which Eq. 3 does not
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["a"] * 6}),
        processing_class=tiny_tokenizer(),
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def padded(rows: list[list[float]] | list[list[int]], left: bool, dtype: torch.dtype) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*[0] * (longest - len(r)), *r] if left else [*r, *[0] * (longest - len(r))] for r in rows], dtype=dtype)


THEIRS: dict[str, dict[str, object]] = {
    "dapo": {"loss_type": "dapo", "beta": 0.0, "epsilon": 0.2, "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo", "beta": 0.0, "epsilon": 0.2, "max_completion_length": 1024},
    "gspo": {"importance_sampling_level": "sequence", "beta": 0.0, "epsilon": 3e-4, "epsilon_high": 4e-4},
    "cispo": {"loss_type": "cispo", "beta": 0.0, "epsilon_high": 5.0},  # theirs is the bound itself, ours 1 + clip_high
}
"""The settings of TRL's page of papers for each preset."""


@pytest.mark.parametrize("advantages", [outcome, process])
@pytest.mark.parametrize("steps_since_sampling", [0, 1])
def test_loss_and_gradient_equal_trls(advantages, steps_since_sampling: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert_like_trl(PAPER, {}, advantages(), steps_since_sampling, tmp_path)


@pytest.mark.parametrize("name", PRESETS)
def test_loss_and_gradient_of_a_preset_equal_trls(name: str, tmp_path: Path) -> None:
    # TRL's ratio of a sequence belongs to one advantage of a sequence.
    advantages_BT = outcome() if name == "gspo" else process()
    config = PAPER.model_copy(update=PRESETS[name])
    assert_like_trl(config, THEIRS[name], advantages_BT, 1, tmp_path, spread=0.2 if name == "cispo" else 0.02)


def test_a_capped_engine_ratio_weighs_the_surrogate_as_trls_does(tmp_path: Path) -> None:
    config = PAPER.model_copy(update={"tis_cap": 1.1})
    assert_like_trl(config, {}, process(), 1, tmp_path, engine_off=0.2)


def assert_like_trl(
    config: GRPOConfig,
    settings: dict[str, object],
    advantages_BT: torch.Tensor,
    steps_since_sampling: int,
    folder: Path,
    spread: float = 0.02,
    engine_off: float = 0.0,
) -> None:
    reference, sampler = tiny_policy(1), tiny_policy(0)
    start = tiny_policy(0)
    if steps_since_sampling:
        # With mu = 2 the second update has a ratio other than 1, and clips.
        with torch.no_grad():
            for weights in start.parameters():
                weights += spread * torch.randn(weights.shape, generator=GENERATOR)
    start.save_pretrained(folder / "start")
    theirs = load_policy(folder / "start")
    trainer = trl_trainer(theirs, folder, **settings)
    old = [row.tolist() for row in sequence_logprobs(sampler, PROMPTS, COMPLETIONS, PAPER)]
    engine = [[value + engine_off * (-1) ** place for place, value in enumerate(row)] for row in old]
    inputs = {
        "prompt_ids": padded(PROMPTS, True, torch.long),
        "prompt_mask": padded([[1] * len(p) for p in PROMPTS], True, torch.long),
        "completion_ids": padded(COMPLETIONS, False, torch.long),
        "completion_mask": padded([[1] * len(o) for o in COMPLETIONS], False, torch.long),
        "advantages": advantages_BT,
        "old_per_token_logps": padded(old, False, torch.float32),
        "ref_per_token_logps": padded(
            [r.tolist() for r in sequence_logprobs(reference, PROMPTS, COMPLETIONS, PAPER)], False, torch.float32
        ),
        "num_items_in_batch": LENGTHS_B.sum(),
    }
    if engine_off:
        trainer.use_vllm = True
        gaps = [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(old, engine, strict=True)]
        inputs["importance_sampling_ratio"] = padded(gaps, False, torch.float32).exp().clamp(max=config.tis_cap)
    loss = trainer._compute_loss(trainer.model.train(), inputs)
    loss.backward()
    gradients = {name: weights.grad for name, weights in theirs.named_parameters()}

    found = update_from(start, reference, advantages_BT, old if steps_since_sampling else None, config, engine if engine_off else None)
    assert found[0] == pytest.approx(float(loss.detach()), abs=1e-5)
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-5, atol=1e-5)
    assert max(float(gradient.abs().max()) for gradient in found[1].values()) > 1e-3


def update_from(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    advantages_BT: torch.Tensor,
    old: list[list[float]] | None,
    config: GRPOConfig,
    engine: list[list[float]] | None,
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of our update: with `old`, of the second one after sampling."""
    kept: dict[str, torch.Tensor] = {}

    class Keeping(torch.optim.SGD):
        def step(self, closure=None):  # type: ignore[no-untyped-def]
            kept.update({name: weights.grad.clone() for name, weights in policy.named_parameters() if weights.grad is not None})
            if old is not None and not self.param_groups[0]["done"]:
                self.param_groups[0]["done"] = True
                policy.load_state_dict(after)

    after = {name: weights.clone() for name, weights in policy.state_dict().items()}
    if old is not None:
        policy.load_state_dict(tiny_policy(0).state_dict())
    optimizer = Keeping(policy.parameters(), lr=0.0)
    optimizer.param_groups[0]["done"] = False
    config = config.model_copy(update={"num_updates": 1 if old is None else 2, "micro_batch_tokens": 40})
    metrics = update_policy(policy, reference, optimizer, Experience(PROMPTS, COMPLETIONS, advantages_BT, engine), config)
    assert metrics["loss"] is not None
    return metrics["loss"], kept
