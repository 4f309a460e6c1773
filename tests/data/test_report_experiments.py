"""Experiments about training texts in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.report.artifact import ReportArtifact
from data.report.blocks import Chart, Table
from data.report.build import make_sections
from data.report.experiments import arms_of, text_table
from data.workspace import MetricLog

BATCH = 100


def trained(folder: Path, name: str, bits: list[float]) -> ReportArtifact:
    path = folder / name
    path.mkdir(parents=True)
    for step, value in enumerate(bits):
        MetricLog(path / "metrics.jsonl").log(step * 5, problems_bits=value)
        MetricLog(path / "metrics.jsonl").log(step * 5 + 1, loss=1.0)
    summary = {"tokens": (len(bits) - 1) * 5 * BATCH, "problems_bits": bits[-1]}
    return ReportArtifact(name, "pretrain", name, path, {"pretrain": {"batch_tokens": BATCH}}, summary, {}, 1.0, False)


def scored(folder: Path, name: str, greedy: float) -> ReportArtifact:
    scores = {"questions": 50, "greedy": greedy, "greedy_se": 0.07}
    return ReportArtifact(name, "evaluate", name, folder / name, {}, scores, {}, 1.0, False)


@pytest.fixture
def artifacts(tmp_path: Path) -> list[ReportArtifact]:
    """Two seeds: `mined` is 0.2 bits ahead of `crawl` in both, and no better after fine-tuning."""
    made = []
    for seed, shift in enumerate((0.0, 0.1)):
        made.append(trained(tmp_path, f"pretrain-code-start-{seed}", [2.0, 1.8 + shift]))
        made.append(trained(tmp_path, f"pretrain-code-crawl-{seed}", [1.8, 1.5 + shift]))
        made.append(scored(tmp_path, f"evaluate-code-crawl-{seed}", 0.4 + shift))
        made.append(trained(tmp_path, f"pretrain-part1-code-two-mines-{seed}", [1.8, 1.6]))
        made.append(trained(tmp_path, f"pretrain-code-two-mines-{seed}", [1.6, 1.3 + 1.2 * shift]))
        made.append(scored(tmp_path, f"evaluate-code-two-mines-{seed}", 0.45))
    return made


def test_arms_have_the_tokens_curves_and_figures_of_all_parts_and_seeds(artifacts: list[ReportArtifact]) -> None:
    start, crawl, mined = arms_of(artifacts)
    assert [start.name, crawl.name, mined.name] == ["start", "crawl", "two-mines"]
    assert (crawl.tokens, mined.tokens, mined.seeds) == (500, 1000, [0, 1])
    assert mined.curves["problems_bits"][0] == {0: 1.8, 500: 1.6, 1000: 1.3}
    assert mined.figures["problems_bits"] == {0: 1.3, 1: pytest.approx(1.42)}
    assert crawl.figures["greedy"] == {0: 0.4, 1: 0.5}
    assert "greedy" not in start.figures


def test_the_section_has_a_table_curves_and_the_verdict_on_each_difference(artifacts: list[ReportArtifact]) -> None:
    section, *_ = make_sections({"config": {}}, artifacts)
    assert (section.id, section.title) == ("experiment", "Code and mathematics")
    table, differences = (block for block in section.blocks if isinstance(block, Table))
    assert list(table.headers) == ["Arm", "Seeds", "Tokens", "Bits a byte, problems", "Greedy"]
    assert list(table.rows[1]) == ["crawl", "2", "500", "1.550 ± 0.050", "45.0 ± 5.0 %"]
    assert table.rows[0][-1] == "–"
    assert [tuple(row) for row in differences.rows] == [
        ("start against crawl", "Bits a byte, problems", "+0.300 ± 0.000", "worse"),
        ("two-mines against crawl", "Bits a byte, problems", "-0.190 ± 0.010", "better"),
        ("two-mines against crawl", "Greedy", "+0.0 ± 5.0 points", "within noise"),
    ]
    charts = [block.title for block in section.blocks if isinstance(block, Chart)]
    assert charts == ["Bits a byte, problems", "Accuracy by arm"]


def test_the_terminal_shows_the_same_table(artifacts: list[ReportArtifact]) -> None:
    lines = text_table(arms_of(artifacts))
    assert lines[0].split() == ["Arm", "Seeds", "Tokens", "Bits", "a", "byte,", "problems", "Greedy"]
    assert len({len(line) for line in lines}) == 1


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    made = [trained(tmp_path, f"pretrain-papers-{arm}-3", [2.0, last]) for arm, last in (("papers", 1.9), ("mined", 1.2))]
    section, *_ = make_sections({"config": {}}, made)
    assert list(section.blocks[-1].rows[0]) == ["mined against papers", "Bits a byte, problems", "-0.700", "one seed: cannot say"]  # type: ignore[union-attr]
