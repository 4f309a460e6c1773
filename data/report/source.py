"""Where the numbers of a figure come from: the artifacts, and a query for `mathquarry ledger sql` that gives them again.

Queries ask the ledger's tables and the views of `data/explore.py`. They hold keys, names of a run's stages and names of figures, never a
text that a model or a page wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.report.artifact import ReportArtifact

Named = Sequence[tuple[str, ReportArtifact]]
"""Artifacts with the names that a figure gives them."""

MOST_KEYS = 4
"""Artifacts named one by one in the line under a figure; its query names all."""


@dataclass(frozen=True)
class Source:
    """The artifacts (stage, key) that hold a figure's numbers, and the query that gives them."""

    artifacts: tuple[tuple[str, str], ...]
    query: str

    @classmethod
    def of(cls, artifacts: Iterable[ReportArtifact], query: str) -> Source:
        """The source in these artifacts, each once."""
        return cls(tuple(dict.fromkeys((artifact.stage, artifact.key) for artifact in artifacts)), query)

    @property
    def caption(self) -> str:
        """The artifacts by stage and the beginning of the key, or how many of each stage there are."""
        if len(self.artifacts) <= MOST_KEYS:
            return ", ".join(f"{stage}/{key[:8]}" for stage, key in self.artifacts)
        return ", ".join(f"{number} × {stage}" for stage, number in Counter(stage for stage, _ in self.artifacts).items())

    @property
    def command(self) -> str:
        """What to paste into a POSIX shell."""
        escaped = "".join(f"\\{character}" if character in '\\"$`' else character for character in self.query)
        return f'mathquarry ledger sql --limit 0 "{escaped}"'


def literal(text: str) -> str:
    """A string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def strings(texts: Iterable[str]) -> str:
    """Strings of SQL in brackets, for `in`."""
    return f"({', '.join(map(literal, dict.fromkeys(texts)))})"


def keys(artifacts: Iterable[ReportArtifact]) -> str:
    """The keys in brackets, for `in`."""
    return strings(artifact.key for artifact in artifacts)


def names_table(named: Named) -> str:
    """A table `names` with columns `name` and `key`, for `from`."""
    rows = ", ".join(f"({literal(name)}, {literal(artifact.key)})" for name, artifact in named)
    return f"(values {rows}) as names(name, key)"


def summary_source(named: Named, figures: Iterable[str]) -> Source:
    """Figures of the artifacts' summaries: name, figure, value."""
    query = (
        "select name, f.key as figure, f.value::double as value\n"
        f"from {names_table(named)} join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {strings(figures)}"
    )
    return Source.of((artifact for _, artifact in named), query)


def metrics_source(named: Named, metrics: Iterable[str]) -> Source:
    """Time series: name, metric, step, value."""
    query = (
        "select names.name, metrics.name as metric, step, value\n"
        f"from {names_table(named)} join metrics using (key)\n"
        f"where metrics.name in {strings(metrics)} order by names.name, metric, step"
    )
    return Source.of((artifact for _, artifact in named), query)


def json_source(artifact: ReportArtifact, file: str, columns: str, among: str = "") -> Source:
    """Parts of a JSON file: `columns` of `content`, or of each `part` of the list `among` in it."""
    held = f"from json_files where artifact = {literal(artifact.key)} and file = {literal(file)}"
    if not among:
        return Source.of([artifact], f"select {columns} {held}")
    return Source.of(
        [artifact], f"select {columns}\nfrom (select unnest(json_extract(content, {literal(f'$.{among}[*]')})) as part\n{held})"
    )


def columns_of(part: str, **types: str) -> str:
    """Columns of a JSON object for `json_source`, each with its SQL type."""
    return ", ".join(f"({part}->>{literal(name)})::{kind} as {name}" for name, kind in types.items())
