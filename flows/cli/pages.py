"""`mathquarry report`: writes a page about a run, about an artifact and its inputs, or about several runs side by side."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.ledger.lineage import graph
from mathquarry.data.report.artifact_page import build_artifact_page
from mathquarry.data.report.build import build_report
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.runs.compare_runs import build_comparison
from mathquarry.data.store.clock import believed_column
from mathquarry.data.store.store import Store
from mathquarry.tasks.report import report_artifacts

Record = dict[str, Any]
"""A run as recorded in the store, or a row of the ledger."""

MOST_NAMED = 5
"""Maximum number of runs that an error lists."""


def write_report(store_url: str, names: Sequence[str], output: Path) -> None:
    """Write the page about `names` to `output`: the latest run (no names), a run, an artifact, or several runs.

    A run is given by its id or the beginning of it, an artifact as for `Ledger.resolve`. Raises `MathQuarryError` for a name that is not in
    the store, and for an artifact among several names.
    """
    store = Store(store_url)
    chosen = names or [name for name in [Ledger(store).newest_run()] if name]
    found = [find_run(store, name) for name in chosen]
    if not found:
        raise MathQuarryError(f"{store_url} has no recorded runs. Make one with `mathquarry run`.")
    with tempfile.TemporaryDirectory() as room:
        page = Path(room)
        runs = [run for run in found if run is not None]
        if len(runs) < len(found):
            _artifact_page(store, names, page)
        elif len(runs) == 1:
            build_report(runs[0], _artifacts(store, runs[0]), page)
        else:
            if repeated := next((run["id"] for run in runs if runs.count(run) > 1), None):
                raise MathQuarryError(f"run {repeated} is given twice. Give each run once.")
            build_comparison([(run, _artifacts(store, run)) for run in runs], page)
        with atomic_path(output.resolve()) as temporary:
            shutil.copyfile(page / "report.html", temporary)
    print(output.resolve())


def find_run(store: Store, name: str) -> Record | None:
    """Return the run whose id is `name`, or starts with it. Raises `MathQuarryError` if several do."""
    known = store.run_names()
    found = [name] if name in known else sorted(run for run in known if run.startswith(name))
    if len(found) > 1:
        some = ", ".join(found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
        raise MathQuarryError(f"{name} is the beginning of {len(found):,} runs: {some}. Give more characters.")
    return store.run(found[0]) if found else None


def _artifacts(store: Store, run: Record) -> list[ReportArtifact]:
    return report_artifacts(store.url, stages_of(run))


def stages_of(run: Record) -> dict[str, str]:
    """Name in the run -> reference of each artifact that a page is about."""
    return {stage["name"]: f"{stage['stage']}/{stage['key']}" for stage in run["stages"] if stage["stage"] != "report"}


def _artifact_page(store: Store, names: Sequence[str], out: Path) -> None:
    name = next(name for name in names if find_run(store, name) is None)
    ledger = Ledger(store)
    try:
        key = ledger.resolve(name)["key"]
    except MathQuarryError as error:
        raise MathQuarryError(f"{store.url} has no run {name} (`mathquarry ledger ls --runs` lists them), and {error}") from None
    if len(names) > 1:
        raise MathQuarryError(f"{name} is an artifact, but only runs can be shown side by side. For a page about it, give it alone.")
    rows = graph(ledger, key, "up").artifacts
    in_run = _names_in_newest_run_with(ledger, key)
    rows += _scores_of(ledger, [row["key"] for row in rows], list(in_run))
    lineage = report_artifacts(store.url, {name: f"{row['stage']}/{row['key']}" for name, row in _named(ledger, rows, in_run).items()})
    used = ledger.query(
        "select a.key, a.stage from inputs i join artifacts a using (key) where i.input = ? and a.stage <> 'report' order by a.created",
        [key],
    )
    asked = next(artifact for artifact in lineage if artifact.key == key)
    build_artifact_page(asked, lineage, list(_named(ledger, used, in_run)), out)


def _names_in_newest_run_with(ledger: Ledger, key: str) -> dict[str, str]:
    """Return key -> name for every artifact of the latest run that has this one; empty if no run has it."""
    rows = ledger.query(
        "select key, name from run_stages where id = (select r.id from runs r join run_stages s using (id) where s.key = ? "
        f"order by {believed_column('r.started')} desc limit 1) order by position desc",
        [key],
    )
    return {row["key"]: row["name"] for row in rows}  # an artifact with two names gets the first


def _scores_of(ledger: Ledger, policies: Sequence[str], keys: Sequence[str]) -> list[Record]:
    """Return those scores in `keys` that belong to `policies`."""
    return ledger.query(
        "select a.* from artifacts a join inputs i using (key) where a.stage in ('evaluate', 'harness') and i.role = 'policy' "
        "and i.input in (select unnest(?::varchar[])) and a.key in (select unnest(?::varchar[])) order by a.created",
        [list(policies), list(keys)],
    )


def _named(ledger: Ledger, rows: Sequence[Record], in_run: dict[str, str]) -> dict[str, Record]:
    """Return artifact rows by name: in the given run, else in the latest run with them, else by stage. Adds the key to repeated names."""
    by_key = {row["key"]: row for row in rows}
    elsewhere = ledger.query(
        f"select s.key, arg_max(s.name, {believed_column('r.started')}) as name from run_stages s join runs r using (id) "
        "where s.key in (select unnest(?::varchar[])) group by s.key",
        [list(by_key.keys() - in_run.keys())],
    )
    names: dict[str, str] = {row["key"]: row["name"] for row in elsewhere} | in_run
    found: dict[str, Record] = {}
    for key, row in by_key.items():
        name = str(names.get(key, row["stage"]))
        found[f"{name} {key[:8]}" if name in found else name] = row
    return found
