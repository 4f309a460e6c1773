"""The policies evaluated in a run, in the order of training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mathquarry.data.report.page.artifact import ReportArtifact, of_stage

NAMES = {"base": "Base", "start": "Start", "sft": "SFT"}
"""Labels of the policies before RL, in the order of training. `start` is one from elsewhere that the run begins with."""
_PROSE = {"Base": "the base model", "Start": "the start policy", "SFT": "fine-tuning"}


def evaluations(artifacts: Sequence[ReportArtifact]) -> list[tuple[str, ReportArtifact]]:
    """Return (label, artifact) of every evaluated policy, in the order of training: Base or Start, SFT, RL 1, RL 2, ..."""
    found = [(policy_label(artifact), artifact) for artifact in of_stage(artifacts, "evaluate")]
    before_rl = list(NAMES.values())
    return sorted(found, key=lambda item: (before_rl.index(item[0]) if item[0] in before_rl else len(before_rl), item[1].iteration or 0))


def policy_label(artifact: ReportArtifact, stage: str = "evaluate") -> str:
    """Return a policy's label in tables, from the name of its evaluation: "RL 2" for "evaluate-rl-2"."""
    name = artifact.name.removeprefix(f"{stage}-")
    return NAMES.get(name) or (f"RL {name.removeprefix('rl-')}" if name.startswith("rl-") else name)


def in_prose(label: str) -> str:
    """Return a policy's label for a sentence: "RL iteration 2" for "RL 2"."""
    return _PROSE.get(label) or (f"RL iteration {label.removeprefix('RL ')}" if label.startswith("RL ") else label)


def policy_in_prose(label: str) -> str:
    """Return the name of the policy itself, not of the stage that made it."""
    return "the fine-tuned policy" if label == "SFT" else in_prose(label)


def rl_number(label: str) -> int | None:
    """Return the iteration of an "RL 2"; None for other policies."""
    number = label.removeprefix("RL ")
    return int(number) if label.startswith("RL ") and number.isdecimal() else None


def step_pairs(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return each policy and the next; and the start of RL with the last policy, if there are several iterations."""
    pairs = list(pairwise(labels))
    trained = [label for label in labels if rl_number(label) is not None]
    if len(trained) > 1 and labels.index(trained[0]):
        pairs.append((labels[labels.index(trained[0]) - 1], trained[-1]))
    return pairs
