"""The stages of the recipe: what each does, what it needs, and whether it needs a GPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageInfo:
    """One stage, as `mathquarry stages` shows it."""

    purpose: str
    needs: tuple[str, ...]
    gpu: bool
    flows: tuple[str, ...] = ()
    """Flows that make its artifacts, beside the one with its name."""


REFRESH = "reward-refresh"
"""The flow that continues a reward model after an iteration of `grpo`."""

STAGES: dict[str, StageInfo] = {
    "import": StageInfo("if a recipe has `start`: an external model or external texts, as an artifact", (), True, ("import-corpus",)),
    "problems": StageInfo("questions to train on, and questions only for evaluation", (), False),
    "crawl": StageInfo("the WARC files to mine: given ones, or a generated mini-web", ("problems",), False),
    "mine": StageInfo("rounds of corpus mining with domain discovery, dedup and decontamination", ("crawl", "problems"), False),
    "pretrain": StageInfo("continued pretraining on the mined corpus", ("import", "mine", "problems"), True),
    "curate": StageInfo("chain-of-thought, program-of-thought and tool-integrated solutions", ("problems",), False),
    "sft": StageInfo("supervised fine-tuning on the solutions", ("import", "pretrain", "curate", "rejection"), True),
    "rejection": StageInfo(
        "if enabled: a fine-tuned policy's own right solutions, for a second fine-tuning",
        ("sft", "curate", "problems"),
        True,
    ),
    "reward": StageInfo(
        "if one is used: the reward model, trained, then refreshed with replay after each iteration",
        ("import", "sft", "problems"),
        True,
        (REFRESH,),
    ),
    "grpo": StageInfo("one iteration of group relative policy optimization", ("import", "sft", "reward", "problems"), True),
    "evaluate": StageInfo(
        "greedy accuracy, Pass@K and Maj@K on held-out questions", ("import", "pretrain", "sft", "grpo", "problems"), True
    ),
    "harness": StageInfo("if any are named: benchmarks of lm-evaluation-harness", ("import", "pretrain", "sft", "grpo"), True),
    "report": StageInfo("one self-contained page about the run", ("evaluate", "harness", "reward", "grpo", "mine"), False),
}
"""Stages in the order in which a run reaches them. `sft` runs again after `rejection`, and `reward` after each iteration of `grpo`."""


def stage_of(flow: str) -> str:
    """The stage whose artifacts the flow called `flow` makes; for a flow that makes none, its own name."""
    return next((stage for stage, info in STAGES.items() if flow in info.flows), flow)


def dependents(stage: str) -> frozenset[str]:
    """The stage and every stage that depends on it."""
    found = {stage}
    while grown := {name for name, info in STAGES.items() if found & set(info.needs)} - found:
        found |= grown
    return frozenset(found)
