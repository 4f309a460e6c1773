"""The tables of credit, reward and refresh are made from the recorded figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mathquarry.data.report.sections.grid import grid_of
from tests.benchmarks.credit import CREDIT, PAGE, WEAK, Experiment, arms_of, figures_of, lines_of
from tests.data.report.report_arms import grid


@pytest.mark.parametrize("experiment", [CREDIT, WEAK], ids=lambda one: one.section)
def test_the_page_shows_the_recorded_figures(experiment: Experiment) -> None:
    begin, end = f"<!-- {experiment.section} -->\n", f"<!-- /{experiment.section} -->"
    section = PAGE.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    assert section.splitlines() == lines_of(json.loads(experiment.figures.read_text(encoding="utf-8")), experiment)


def test_figures_are_kept_in_full(tmp_path: Path) -> None:
    arms = grid_of(grid(tmp_path))
    again = arms_of(json.loads(json.dumps(figures_of(arms, "abc1234"))))
    assert list(again) == list(arms)
    for key, arm in arms.items():
        assert again[key].metrics == {metric: {i: pytest.approx(v) for i, v in by.items() if v} for metric, by in arm.metrics.items()}


def test_tables_have_means_errors_and_verdicts(tmp_path: Path) -> None:
    lines = lines_of(figures_of(grid_of(grid(tmp_path)), "abc1234"))
    assert lines[0].startswith(
        "`mathquarry compare tiny credit --set iterations=3 --set 'compare.seeds=[0,1,2]'`, revision abc1234, 3 seeds."
    )
    table = lines.index("| Credit | rule | process model, refreshed | process model, frozen |")
    assert lines[table + 1 : table + 4] == [
        "| --- | --- | --- | --- |",
        "| outcome | 72.0 ± 0.0 % | 70.2 ± 0.1 % | 65.2 ± 0.1 % |",
        "| sum of steps | – | 80.2 ± 0.1 % | 75.2 ± 0.1 % |",
    ]
    assert "| a refreshed reward model is better than a frozen one | 4.1.4 | 2 | holds in 2 | +5.0 ± 0.0 | holds |" in lines
    scores = "80.2 ± 0.1 % | 90.0 ± 0.0 % | 90.0 ± 0.0 % | 80.2 ± 0.1 %"
    assert f"| sum of steps | process model | refreshed | 2 | 3 | {scores} | 0.755 ± 0.003 | 70.0 s |" in lines
