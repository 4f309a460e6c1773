"""Made-up runs with known features: a collapse, a gain, a draw, an exploited reward model, cut-off completions, few questions."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.store.workspace import MetricLog

Figures = Mapping[str, float | Callable[[float], float]]
"""Metrics of an iteration's steps: a number, or a function of the share of the steps that are done (0 to 1)."""

GRPO: dict[str, Any] = {
    "paradigm": {"data": "online", "reward": "model", "advantage": "group"},
    "collapse": {"largest_kl": 2.0},
    "probe_tolerance": 0.05,
    "rollout": {"max_tokens": 40},
}


def evaluated(folder: Path, name: str, right: Sequence[bool], finished: float = 1.0) -> ReportArtifact:
    """An evaluation in which question i is answered correctly by greedy decoding if `right[i]`; Maj@8 is the same, Pass@8 always 0.95."""
    path = folder / name
    path.mkdir(parents=True)
    rows = [
        {
            "problem_id": f"p{place}",
            "question": f"{place} + 1?",
            "gold": str(place + 1),
            "kind": "greedy",
            "format": "cot",
            "text": "",
            "correct": correct,
            "finished": place >= round((1 - finished) * len(right)),
            "tokens": 9,
        }
        for place, correct in enumerate(right)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path / "answers.parquet")
    share = sum(right) / len(right)
    error = math.sqrt(share * (1 - share) / len(right))
    summary = {"questions": len(right), "greedy": share, "greedy_se": error, "maj@8": share, "maj@8_se": error}
    summary |= {"pass@8": 0.95, "pass@8_se": math.sqrt(0.95 * 0.05 / len(right))}
    config = {"evaluate": {"rollout": {"max_tokens": 40}}}
    return ReportArtifact(name, "evaluate", name, path, config, summary, {}, 1.0, False)


def iterated(folder: Path, number: int, steps: int = 20, config: Mapping[str, Any] = GRPO, **metrics: Any) -> ReportArtifact:
    """An iteration whose metrics are as given, with a little noise on reward and accuracy."""
    path = folder / f"grpo-{number}"
    path.mkdir(parents=True)
    log, noise = MetricLog(path / "metrics.jsonl"), random.Random(number)
    given: Figures = {
        "reward": 0.5,
        "accuracy": 0.6,
        "entropy": 0.3,
        "kl": 0.01,
        "completion_tokens": 24.0,
        "truncated_share": 0.0,
    } | metrics
    given = {"groups_mixed": 0.5, "probe_mean": 1e-6, "mismatch_mean": 1e-6} | given
    for step in range(1, steps + 1):
        over = (step - 1) / max(1, steps - 1)
        values = {name: value(over) if callable(value) else value for name, value in given.items()}
        for name in ("reward", "accuracy"):
            values[name] += noise.gauss(0, 0.01)
        log.log(step, **values)
    return ReportArtifact(f"grpo-{number}", "grpo", f"grpo-{number}", path, {"grpo": dict(config)}, {}, {}, 100.0, False)


def answers(questions: int, share: float) -> list[bool]:
    """The first ones are right."""
    return [place < round(share * questions) for place in range(questions)]


def flipped(before: Sequence[bool], gained: int, lost: int) -> list[bool]:
    """The same answers, except that so many wrong ones become right, and so many right ones wrong."""
    after = list(before)
    wrong, right = ([place for place, correct in enumerate(before) if correct == which] for which in (False, True))
    for place in [*wrong[:gained], *right[:lost]]:
        after[place] = not after[place]
    return after


def write_rounds(folder: Path, auc: float | None, warnings: Sequence[str] = ()) -> ReportArtifact:
    """A mining artifact of one round."""
    path = folder / "mine"
    path.mkdir(parents=True)
    entry = {"round": 1, "separation": {"auc": auc}, "warnings": list(warnings)}
    funnel = [{"step": "captured", "pages": 3000, "tokens": None}, {"step": "collected", "pages": 900, "tokens": 350_000}]
    (path / "rounds.json").write_text(json.dumps({"rounds": [entry], "funnel": funnel}))
    return ReportArtifact("mine", "mine", "mine", path, {}, {"planted_contaminated": 60, "removed_contaminated": 60}, {}, 1.0, False)
