"""The table of the demo over seeds is made from the recorded figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.demo import FIGURES, README, SECTION, Figures, rises, summary_lines, table_lines
from tests.benchmarks.results import RESULTS


def one_seed(*greedy: float) -> dict[str, object]:
    scores = dict(zip(["Base", "SFT", "RL 1"], greedy, strict=True))
    return {"revision": "abc1234", "minutes": None, "scores": dict.fromkeys(["Greedy", "Pass@1", "Pass@8", "Maj@8"], scores)}


@pytest.mark.parametrize(("page", "lines"), [(RESULTS, table_lines), (README, summary_lines)])
def test_the_tables_show_the_recorded_figures(page: Path, lines: Callable[[Figures], list[str]]) -> None:
    section = page.read_text(encoding="utf-8").partition(f"<!-- {SECTION} -->\n")[2].partition(f"<!-- /{SECTION} -->")[0]
    assert section.splitlines() == lines(json.loads(FIGURES.read_text(encoding="utf-8")))


def test_a_score_that_stays_or_falls_once_does_not_rise() -> None:
    assert rises({"Base": 0.0, "SFT": 0.5, "RL 1": 0.6})
    assert not rises({"Base": 0.0, "SFT": 0.5, "RL 1": 0.5})
    assert not rises({"Base": 0.0, "SFT": 0.7, "RL 1": 0.6})


def test_the_table_has_the_mean_its_error_over_seeds_and_the_extremes() -> None:
    lines = table_lines({"1": one_seed(0.0, 0.7, 0.6), "0": one_seed(0.0, 0.5, 0.8)})
    assert "greedy in 1 and Maj@8 in 1 of 2 seeds" in lines[0]
    # The deviation of 0.5 and 0.7 is 0.1414, and the error of their mean 0.1.
    assert "| fine-tuning | 60.0 ± 10.0 | 50.0 to 70.0 | 60.0 ± 10.0 | 60.0 ± 10.0 | 60.0 ± 10.0 |" in lines
    assert "| RL iteration 1 | 80.0 / 80.0 | 60.0 / 60.0 |" in lines  # by seed: 0, then 1
