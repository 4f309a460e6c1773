"""Section "rollouts": a few questions with the outputs sampled for them, the score of each step, and the verdict."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.report.artifact import ReportArtifact, of_stage
from data.report.blocks import Block, Group, Groups, Sample, Section, Step

QUESTIONS = 4
"""Questions shown of a step."""
SAMPLES = 6
"""Outputs shown of a question: the best and the worst by reward."""
MOST_CHARACTERS = 4000
"""Longer outputs are cut: a page that many people open must stay small."""

COLUMNS = ["step", "question", "gold", "group", "sample", "text", "step_rewards", "reward", "advantage", "correct", "finished"]


def rollout_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Groups from the first and the last step of each iteration, the ones with right and wrong answers first."""
    blocks: list[Block] = []
    for artifact in of_stage(artifacts, "grpo"):
        path = artifact.path / "rollouts.parquet"
        if not path.exists():
            continue
        name = f"Iteration {artifact.iteration}" if artifact.iteration else artifact.name
        for which, step, rows in _ends(path):
            blocks.append(Groups(f"{name}, {which} step ({step})", _groups(rows)))
    if not blocks:
        return None
    return Section(
        "rollouts",
        "Rollouts",
        f"Up to {QUESTIONS} questions of a step with the best and the worst of their outputs. The number beside a step is the reward "
        "model's score for it; the advantage is that of the first step.",
        blocks,
    )


def _ends(path: Path) -> list[tuple[str, int, list[dict[str, Any]]]]:
    """(which, step, rows) of the first and the last step. A row group is a step; only these two are read, for the file may be huge."""
    file = pq.ParquetFile(path)
    if file.metadata.num_rows == 0:
        return []
    found: list[tuple[str, int, list[dict[str, Any]]]] = []
    for which, row_group in (("first", 0), ("last", file.metadata.num_row_groups - 1)):
        table = file.read_row_group(row_group, COLUMNS)
        step = table["step"][0 if which == "first" else table.num_rows - 1].as_py()
        rows = table.filter(pa.compute.equal(table["step"], step)).to_pylist()
        if not any(step == other for _, other, _ in found):
            found.append((which, step, rows))
    return found


def _groups(rows: list[dict[str, Any]]) -> list[Group]:
    by_group: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_group[row["group"]].append(row)
    groups: list[tuple[bool, Group]] = []
    for members in by_group.values():
        right = sum(row["correct"] for row in members)
        ordered = sorted(members, key=lambda row: (-row["reward"], row["sample"]))
        half = SAMPLES // 2
        shown = ordered if len(ordered) <= SAMPLES else ordered[:half] + ordered[-half:]
        tally = f"{right} of {len(members)} right"
        group = Group(members[0]["question"], members[0]["gold"], tally, [_sample(row) for row in shown])
        groups.append((right in (0, len(members)), group))
    # Mixed groups say most; the sort is stable, so otherwise the order is that of the step.
    return [group for _, group in sorted(groups, key=lambda item: item[0])[:QUESTIONS]]


def _sample(row: dict[str, Any]) -> Sample:
    advantages = row["advantage"]
    return Sample(
        steps=split_steps(row["text"], row["step_rewards"]),
        reward=row["reward"],
        correct=row["correct"],
        finished=row["finished"],
        advantage=advantages[0] if advantages else None,
    )


def split_steps(text: str, rewards: Sequence[float] = ()) -> list[Step]:
    """The text by steps, a step ending with a run of newlines. Where the counts differ (one reward for the whole), the last step has it."""
    text = text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " […]"
    pieces = [piece for piece in re.split(r"(?<=\n)(?!\n)", text) if piece.strip()] or [text]
    if len(pieces) == len(rewards):
        return [Step(piece.strip("\n"), reward) for piece, reward in zip(pieces, rewards, strict=True)]
    last = rewards[-1] if rewards else None
    return [Step(piece.strip("\n"), last if index == len(pieces) - 1 else None) for index, piece in enumerate(pieces)]
