"""The stages of the recipe: what each does, what it needs, and whether it wants a GPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageInfo:
    """One stage, as `mathquarry stages` shows it."""

    purpose: str
    needs: tuple[str, ...]
    gpu: bool


STAGES: dict[str, StageInfo] = {
    "problems": StageInfo("questions that are trained on, and questions that are only scored", (), False),
    "crawl": StageInfo("the WARC files to mine: given ones, or a generated mini-web", ("problems",), False),
    "mine": StageInfo("rounds of corpus mining with domain discovery, dedup and decontamination", ("crawl", "problems"), False),
    "pretrain": StageInfo("continued pretraining on the mined corpus", ("mine", "problems"), True),
    "curate": StageInfo("chain-of-thought, program-of-thought and tool-integrated solutions", ("problems",), False),
    "sft": StageInfo("supervised fine-tuning on the solutions", ("pretrain", "curate", "rejection"), True),
    "rejection": StageInfo(
        "where it is switched on: a fine-tuned policy's own right solutions, for a second fine-tuning",
        ("sft", "curate", "problems"),
        True,
    ),
    "reward": StageInfo("the reward model: first training, then a refresh with replay after each iteration", ("sft", "problems"), True),
    "grpo": StageInfo("one iteration of group relative policy optimisation", ("sft", "reward", "problems"), True),
    "evaluate": StageInfo("greedy accuracy, Pass@K and Maj@K on held-out questions", ("pretrain", "sft", "grpo", "problems"), True),
    "harness": StageInfo("where it names any: benchmarks of lm-evaluation-harness", ("pretrain", "sft", "grpo"), True),
    "report": StageInfo("one self-contained page about the run", ("evaluate", "harness", "reward", "grpo", "mine"), False),
}
"""In the order in which a run first comes to them. After `rejection` `sft` runs again, and after an iteration of `grpo` `reward` does."""


def dependents(stage: str) -> frozenset[str]:
    """The stage and every stage that depends on it."""
    found = {stage}
    while grown := {name for name, info in STAGES.items() if found & set(info.needs)} - found:
        found |= grown
    return frozenset(found)
