"""`mathquarry report`: a page about a run, about an artifact and what made it, or about runs side by side."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import MathQuarryError
from data.files import atomic_path
from data.ledger import Ledger
from data.lineage import graph
from data.report.artifact import ReportArtifact
from data.report.artifact_page import build_artifact_page
from data.report.build import build_report
from data.report.compare_runs import build_comparison
from data.store import Store
from tasks.report import report_artifacts

Record = dict[str, Any]
"""A run as the store records it."""


def write_report(store_url: str, names: Sequence[str], output: Path) -> None:
    """Write the page about what `names` are to `output`: nothing is the newest run; a run, or an artifact; or several runs.

    A run goes by its id or the beginning of it, an artifact as `Ledger.resolve` takes it. Raises `MathQuarryError` for what the store does
    not have, and for an artifact among several names.
    """
    store = Store(store_url)
    records = store.runs()
    found = [find_run(records, name) for name in names] if names else records[-1:]
    if not found:
        raise MathQuarryError(f"{store_url} has no recorded run. `mathquarry run` makes one.")
    with tempfile.TemporaryDirectory() as room:
        page = Path(room)
        runs = [run for run in found if run is not None]
        if len(runs) < len(found):
            _artifact_page(store, records, names, page)
        elif len(runs) == 1:
            build_report(runs[0], _artifacts(store, runs[0]), page)
        else:
            if repeated := next((run["id"] for run in runs if runs.count(run) > 1), None):
                raise MathQuarryError(f"run {repeated} is named twice. Name each run once.")
            build_comparison([(run, _artifacts(store, run)) for run in runs], page)
        with atomic_path(output.resolve()) as temporary:
            shutil.copyfile(page / "report.html", temporary)
    print(output.resolve())


def find_run(records: Sequence[Record], name: str) -> Record | None:
    """The run whose id is `name`, or begins with it. Raises `MathQuarryError` where several do."""
    found = [run for run in records if run["id"] == name] or [run for run in records if run["id"].startswith(name)]
    if len(found) > 1:
        raise MathQuarryError(f"{name} is the beginning of {len(found)} runs: {', '.join(run['id'] for run in found)}. Give more of it.")
    return found[0] if found else None


def _artifacts(store: Store, run: Record) -> list[ReportArtifact]:
    return report_artifacts(store.url, _stages(run))


def _stages(run: Record) -> dict[str, str]:
    return {stage["name"]: f"{stage['stage']}/{stage['key']}" for stage in run["stages"] if stage["stage"] != "report"}


def _artifact_page(store: Store, records: Sequence[Record], names: Sequence[str], out: Path) -> None:
    name = next(name for name in names if find_run(records, name) is None)
    ledger = Ledger(store)
    try:
        key = ledger.resolve(name)["key"]
    except MathQuarryError as error:
        raise MathQuarryError(f"{store.url} has no run {name} (`mathquarry ledger ls --runs` lists them), and {error}") from None
    if len(names) > 1:
        raise MathQuarryError(f"{name} is an artifact, and only runs go side by side. Name it alone for a page about it.")
    newest_first = list(reversed(records))
    newest_first.sort(key=lambda run: key not in _keys(run))
    rows = graph(ledger, key, "up").artifacts
    if newest_first and key in _keys(newest_first[0]):
        rows += _scores_of(ledger, [row["key"] for row in rows], _keys(newest_first[0]))
    lineage = report_artifacts(store.url, {name: f"{row['stage']}/{row['key']}" for name, row in _named(rows, newest_first).items()})
    used = ledger.query(
        "select a.key, a.stage from inputs i join artifacts a using (key) where i.input = ? and a.stage <> 'report' order by a.created",
        [key],
    )
    asked = next(artifact for artifact in lineage if artifact.key == key)
    build_artifact_page(asked, lineage, list(_named(used, newest_first)), out)


def _scores_of(ledger: Ledger, policies: Sequence[str], keys: set[str]) -> list[Record]:
    """Scores among `keys` of the policies among `policies`."""
    return ledger.query(
        "select a.* from artifacts a join inputs i using (key) where a.stage in ('evaluate', 'harness') and i.role = 'policy' "
        "and i.input in (select unnest(?::varchar[])) and a.key in (select unnest(?::varchar[])) order by a.created",
        [list(policies), list(keys)],
    )


def _keys(run: Record) -> set[str]:
    return {stage["key"] for stage in run["stages"]}


def _named(rows: Sequence[Record], runs: Sequence[Record]) -> dict[str, Record]:
    """Artifact rows by the name that the first of `runs` gives each; by the stage where none does, with the key where that is taken."""
    found: dict[str, Record] = {}
    for row in {row["key"]: row for row in rows}.values():
        given = (stage["name"] for run in runs for stage in run["stages"] if stage["key"] == row["key"])
        name = next(given, row["stage"])
        found[f"{name} {row['key'][:8]}" if name in found else name] = row
    return found
