"""The report of `mathquarry evaluate`: one model on one or several benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mathquarry.data.report.build import write_page
from mathquarry.data.report.page.blocks import Block, Fold, Section, Table, count, percent
from mathquarry.data.report.page.scores import Score, Scores, read_lenient_scores, read_scores
from mathquarry.data.report.page.source import Source
from mathquarry.data.report.sections.verdicts import answers_of
from mathquarry.data.solutions.config import SolutionFormat


@dataclass(frozen=True)
class Scored:
    """The results on one benchmark."""

    benchmark: str
    summary: Mapping[str, Any]
    formats: Sequence[SolutionFormat]
    answers: Path
    """`answers.parquet`."""


@dataclass(frozen=True)
class FileSource(Source):
    """Numbers in a file next to the page, and a query that returns them."""

    @property
    def command(self) -> str:
        """The command for DuckDB's own shell, in the page's folder."""
        return self.query


def readings(scored: Scored) -> list[tuple[SolutionFormat, str, Scores, Score]]:
    """Return (format, reading, scores, share of completions that ended) for each format, the strict reading first."""
    found = []
    for format in scored.formats:
        prefix = "" if format == scored.formats[0] else f"{format}_"
        own = {name.removeprefix(prefix): value for name, value in scored.summary.items() if name.startswith(prefix)}
        finished = Score(float(own["finished"]), None)
        found.append((format, "strict", read_scores(own), finished))
        if (lenient := read_lenient_scores(own)) is not None:
            found.append((format, "lenient", lenient, finished))
    return found


def score_table(results: Sequence[Scored]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows: one row per benchmark, format and reading."""
    every = [(scored.benchmark, *reading) for scored in results for reading in readings(scored)]
    metrics = list(dict.fromkeys(name for *_, scores, _ in every for name in scores.columns()))
    rows = []
    for benchmark, format, reading, scores, finished in every:
        columns = scores.columns()
        metrics = [str(columns.get(name, "–")) for name in metrics]
        rows.append([benchmark, format, reading, count(scores.questions), *metrics, percent(finished.value)])
    return ["Benchmark", "Format", "Answers read", "Questions", *metrics, "Ended"], rows


def write_evaluation(model: str, results: Sequence[Scored], settings: str, out: Path) -> None:
    """Write `out / "report.html"`. `settings` is shown unchanged."""
    headers, rows = score_table(results)
    files = [(scored.benchmark, str(scored.answers.relative_to(out))) for scored in results]
    query = "\n".join(
        f"select kind, format, count(*), avg(correct::int), avg(lenient_correct::int) from '{name}' group by all;" for _, name in files
    )
    source = FileSource(tuple(files), query)
    scores: list[Block] = [Table(headers, rows, numeric=frozenset(range(3, len(headers))), source=source), Fold("Settings", settings)]
    sections = [
        Section(
            "scores",
            "Scores",
            'Strict reading: only a box is an answer. Lenient reading: also text after "the answer is" or at the end. Published scores '
            "of one model differ by 20 points between two such readings. ± is one standard error over questions. Pass@K: at least one of K "
            "samples is correct. Maj@K: the most frequent of K answers is correct. Ended: completions that were not truncated; truncated "
            "ones count as wrong.",
            scores,
        ),
        *(_answers(f"answers-{place}", scored, source) for place, scored in enumerate(results)),
    ]
    write_page({"recipe": model, "kind": "model", "id": "", "started": ""}, [], sections, out)


def _answers(id: str, scored: Scored, source: Source) -> Section:
    return Section(id, scored.benchmark, "Greedy answers and their grades.", [answers_of(scored.benchmark, scored.answers, source)])
