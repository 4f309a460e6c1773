"""Section "rollouts": some questions with their sampled completions, the score and advantage of each step, and the grade.

A run can have millions of completions. A fixed rule selects some completions of a few steps. Each step is a row group of the file, and only
the row groups of these steps are read. The query of each block returns the same completions.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.report.page.artifact import ReportArtifact, of_stage
from mathquarry.data.report.page.blocks import Group, Groups, Sample, Section, Step, count
from mathquarry.data.report.page.source import Source, literal

SEED = 0
"""Seed for choosing questions."""
ITERATIONS = 6
"""Maximum number of iterations shown: the first, the last, and others evenly spread."""
QUESTIONS = 4
"""Questions shown per step."""
BEST_AND_WORST = 3
"""Completions shown per question: this many with the highest reward, and this many with the lowest."""
MOST_CHARACTERS = 4000
"""Longer texts are truncated, to keep the page small."""

COLUMNS = ("iteration", "step", "question", "gold", "group", "sample", "text", "step_rewards", "reward", "advantage", "correct", "finished")
DRAW = f"""select r.step, r.group, sample, question, gold, text, step_rewards, reward, advantage, correct, finished
from (select *, dense_rank() over (order by mixed desc, draw) as place,
row_number() over (partition by draw order by reward desc, sample) as from_best,
row_number() over (partition by draw order by reward, sample desc) as from_worst
from (select *, bool_or(correct) over one_group and not bool_and(correct) over one_group as mixed,
md5('{SEED}:' || iteration || ':' || step || ':' || q.group) as draw
from rollouts as q where artifact = {{key}} and step = {{step}} window one_group as (partition by q.group))) as r
where place <= {QUESTIONS} and (from_best <= {BEST_AND_WORST} or from_worst <= {BEST_AND_WORST}) order by place, from_best"""

_FENCE = re.compile(r"```(python|py|output)?\s*")


def rollout_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show groups from the first, the middle and the last step of each iteration."""
    files = [(artifact, path) for artifact in of_stage(artifacts, "grpo") if (path := artifact.path / "rollouts.parquet").exists()]
    blocks = [block for place in evenly(len(files), ITERATIONS) for block in _blocks(*files[place])]
    if not blocks:
        return None
    shown = sum(len(group.samples) for block in blocks for group in block.groups)
    completions = sum(pq.read_metadata(path).num_rows for _, path in files)
    which = "each iteration" if len(files) <= ITERATIONS else f"{ITERATIONS} of {len(files)} iterations, evenly spread,"
    return Section(
        "rollouts",
        "Rollouts",
        f"{count(shown)} of {count(completions)} completions, selected by this rule: from the first, middle and last step of {which} "
        f"{QUESTIONS} questions, first those with correct and wrong completions, otherwise random ones (in the order of an MD5 with "
        f"seed {SEED}); "
        f"for each question, the {BEST_AND_WORST} completions with the highest reward and the {BEST_AND_WORST} with the lowest. Next to "
        f"each step are the "
        "reward model's score, which also sets its colour, and the advantage of its last token. All completions are in rollouts.parquet of "
        "each artifact, and in the ledger's view “rollouts”.",
        blocks,
    )


def evenly(length: int, most: int) -> list[int]:
    """Return up to `most` indices below `length`: the first, the last, and others evenly spread."""
    if length <= most:
        return list(range(length))
    return [round(place * (length - 1) / (most - 1)) for place in range(most)]


def _blocks(artifact: ReportArtifact, path: Path) -> list[Groups]:
    """Return one block per step that is shown."""
    name = f"Iteration {artifact.iteration}" if artifact.iteration else artifact.name
    with pq.ParquetFile(path) as file:
        steps = file.metadata.num_row_groups
        named = {0: "first", steps // 2: "middle", steps - 1: "last"} if steps > 1 else dict.fromkeys(range(steps), "only")
        blocks = []
        for row_group, which in named.items():
            rows = file.read_row_group(row_group, COLUMNS).to_pylist()
            groups = _groups(rows)
            step = rows[0]["step"]
            shown = sum(len(group.samples) for group in groups)
            questions = len({row["group"] for row in rows})
            note = f"{len(groups)} of {count(questions)} questions, {shown} of {count(len(rows))} completions of this step."
            source = Source.of([artifact], DRAW.format(key=literal(artifact.key), step=step))
            blocks.append(Groups(f"{name}, {which} step ({step})", groups, note, source=source))
    return blocks


def newest_groups(path: Path, most: int) -> tuple[int, list[Group]]:
    """The last step of a file of rollouts, and up to `most` of its questions."""
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(file.metadata.num_row_groups - 1, COLUMNS).to_pylist()
    return rows[0]["step"], _groups(rows)[:most]


def _groups(rows: list[dict[str, Any]]) -> list[Group]:
    by_group: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_group[row["group"]].append(row)
    drawn = sorted(by_group.values(), key=lambda members: (not _mixed(members), _draw(members[0])))
    return [_group(members) for members in drawn[:QUESTIONS]]


def _mixed(members: Sequence[dict[str, Any]]) -> bool:
    return 0 < sum(row["correct"] for row in members) < len(members)


def _draw(row: dict[str, Any]) -> str:
    place = f"{SEED}:{row['iteration']}:{row['step']}:{row['group']}"
    return hashlib.md5(place.encode(), usedforsecurity=False).hexdigest()


def _group(members: list[dict[str, Any]]) -> Group:
    ordered = sorted(members, key=lambda row: (-row["reward"], row["sample"]))
    half = BEST_AND_WORST
    shown = ordered if len(ordered) <= 2 * half else ordered[:half] + ordered[-half:]
    right = sum(row["correct"] for row in members)
    question = shortened(members[0]["question"])
    return Group(question, members[0]["gold"], f"{right} of {len(members)} correct", [_sample(row) for row in shown])


def _sample(row: dict[str, Any]) -> Sample:
    steps = split_steps(row["text"], row["step_rewards"], row["advantage"])
    return Sample(steps=steps, reward=row["reward"], correct=row["correct"], finished=row["finished"])


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return the text, or its beginning and a mark that it was truncated."""
    return text if len(text) <= most else f"{text[:most]} […]"


def split_steps(text: str, rewards: Sequence[float] = (), advantages: Sequence[float] = ()) -> list[Step]:
    """Split the text into steps, each ending with a run of newlines, up to `MOST_CHARACTERS`.

    If there are not as many rewards as steps (one reward for the completion), the last step gets the last one. So do advantages.
    """
    pieces = [piece for piece in re.split(r"(?<=\n)(?!\n)", text) if piece.strip()] or [text]
    steps, room, role = [], MOST_CHARACTERS, "text"
    for piece, reward, advantage in zip(pieces, _aligned(rewards, len(pieces)), _aligned(advantages, len(pieces)), strict=True):
        fence = _FENCE.fullmatch(piece)
        if fence and role == "text":
            role = {"output": "output", None: "text"}.get(fence[1], "program")
        steps.append(Step(shortened(piece.strip("\n"), room), reward, advantage, role))
        if fence and not fence[1]:
            role = "text"
        room -= len(piece)
        if room <= 0:
            break
    if len(steps) < len(pieces) and not steps[-1].text.endswith("[…]"):
        steps.append(Step("[…]", None))
    return steps


def _aligned(values: Sequence[float], length: int) -> Sequence[float | None]:
    if len(values) == length:
        return values
    return [*[None] * (length - 1), values[-1] if values else None]
