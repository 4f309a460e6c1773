"""The tables of a pretrained model's learning are made from the recorded figures."""

from __future__ import annotations

import json
from typing import Any

from tests.benchmarks.smollm import FIGURES, PAGE, SECTION, lines_of


def one_seed(shift: float) -> dict[str, Any]:
    rows = {"Start": 0.1, "SFT": 0.4, "RL 1": 0.6}
    return {
        "revision": "abc1234",
        "questions": 500,
        "scores": {label: {"Greedy": [value + shift, 0.02], "Greedy, lenient": [value + shift, None]} for label, value in rows.items()},
        "changes": {"Start, SFT": [0.3, 0.03, 170, 20], "SFT, RL 1": [0.2 + shift, 0.03 + shift, 120, 20]},
        "curve": {
            "accuracy": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8],
            "kl": [0.0] * 7,
            "completion_tokens": [20.0] * 7,
        },
        "minutes": {"sft": 5.0, "grpo-1": 10.0},
    }


def test_the_page_shows_the_recorded_figures() -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"<!-- {SECTION} -->\n")[2].partition(f"<!-- /{SECTION} -->")[0]
    assert section.splitlines() == lines_of(json.loads(FIGURES.read_text(encoding="utf-8")))


def test_tables_have_scores_changes_means_of_steps_and_minutes_by_seed() -> None:
    lines = lines_of({"1": one_seed(0.01), "0": one_seed(0.0)})
    assert lines[0].startswith('`make smollm-table SEEDS="0 1"`, revision abc1234; 500 held-out questions')
    assert "| 0 | fine-tuning | 40.0 ± 2.0 | 40.0 |" in lines
    # The error of the mean of two seeds with other questions: the root of 0.03^2 + 0.04^2, halved.
    assert "| fine-tuning | RL iteration 1 | +20.0 ± 3.0 | 120, 20 | +21.0 ± 4.0 | 120, 20 | +20.5 ± 2.5 |" in lines
    assert "| 1 to 5 | 30.0 | 0 | 20 | 30.0 | 0 | 20 |" in lines
    assert "| 6 to 7 | 70.0 | 0 | 20 | 70.0 | 0 | 20 |" in lines
    assert "| grpo-1 | 10.0 | 10.0 |" in lines
