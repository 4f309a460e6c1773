"""The source of a metric's numbers: the artifacts, and a query for `mathquarry ledger sql` that returns them.

Queries use the ledger's tables and the views in `data/ledger/sql.py`. They contain keys, names of a run's stages and names of metrics, but
no text from a model or a web page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mathquarry.data.report.page.artifact import ReportArtifact

Named = Sequence[tuple[str, ReportArtifact]]
"""Artifacts with their names in a chart or table."""

MOST_KEYS = 4
"""Maximum number of artifacts listed in the line below a metric. Its query lists all."""


@dataclass(frozen=True)
class Source:
    """The artifacts (stage, key) that contain a metric's numbers, and the query that returns them."""

    artifacts: tuple[tuple[str, str], ...]
    query: str

    @classmethod
    def of(cls, artifacts: Iterable[ReportArtifact], query: str) -> Source:
        """Return the source for these artifacts, without duplicates."""
        return cls(tuple(dict.fromkeys((artifact.stage, artifact.key) for artifact in artifacts)), query)

    @property
    def caption(self) -> str:
        """The artifacts by stage and the beginning of the key, or their number per stage."""
        if len(self.artifacts) <= MOST_KEYS:
            return ", ".join(f"{stage}/{key[:8]}" for stage, key in self.artifacts)
        return ", ".join(f"{number} × {stage}" for stage, number in Counter(stage for stage, _ in self.artifacts).items())

    @property
    def command(self) -> str:
        """The command for a POSIX shell."""
        escaped = "".join(f"\\{character}" if character in '\\"$`' else character for character in self.query)
        return f'mathquarry ledger sql --limit 0 "{escaped}"'


def literal(text: str) -> str:
    """Quote a string for SQL."""
    return "'" + text.replace("'", "''") + "'"


def strings(texts: Iterable[str]) -> str:
    """Quote strings for SQL, in parentheses for `in`."""
    return f"({', '.join(map(literal, dict.fromkeys(texts)))})"


def keys(artifacts: Iterable[ReportArtifact]) -> str:
    """Return the keys in parentheses for `in`."""
    return strings(artifact.key for artifact in artifacts)


def names_table(named: Named) -> str:
    """Return a table `names` with columns `name` and `key`, for `from`."""
    rows = ", ".join(f"({literal(name)}, {literal(artifact.key)})" for name, artifact in named)
    return f"(values {rows}) as names(name, key)"


def summary_source(named: Named, metrics: Iterable[str]) -> Source:
    """Return the source of metrics in the artifacts' summaries: name, metric, value."""
    query = (
        "select name, f.key as metric, f.value::double as value\n"
        f"from {names_table(named)} join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {strings(metrics)}"
    )
    return Source.of((artifact for _, artifact in named), query)


def metrics_source(named: Named, metrics: Iterable[str]) -> Source:
    """Return the source of time series: name, metric, step, value."""
    query = (
        "select names.name, metrics.name as metric, step, value\n"
        f"from {names_table(named)} join metrics using (key)\n"
        f"where metrics.name in {strings(metrics)} order by names.name, metric, step"
    )
    return Source.of((artifact for _, artifact in named), query)


def json_source(artifact: ReportArtifact, file: str, columns: str, among: str = "") -> Source:
    """Return the source of parts of a JSON file: `columns` of `content`, or of each `part` in its list `among`."""
    held = f"from json_files where artifact = {literal(artifact.key)} and file = {literal(file)}"
    if not among:
        return Source.of([artifact], f"select {columns} {held}")
    return Source.of(
        [artifact], f"select {columns}\nfrom (select unnest(json_extract(content, {literal(f'$.{among}[*]')})) as part\n{held})"
    )


def columns_of(part: str, **types: str) -> str:
    """Return columns of a JSON object for `json_source`, each with its SQL type."""
    return ", ".join(f"({part}->>{literal(name)})::{kind} as {name}" for name, kind in types.items())
