"""Rows of the ledger, read from a store's manifests, metrics and run files, and written in batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.manifests import MANIFEST
from mathquarry.data.store.published import Damaged
from mathquarry.data.store.workspace import MetricLog

TABLES = ("artifacts", "inputs", "sources", "metrics", "runs", "run_stages")
DEFINITIONS = """
create table if not exists artifacts (key varchar primary key, stage varchar, version integer, created timestamp, seconds double,
    bytes bigint, files integer, config json, summary json, code_version varchar, code_revision varchar, path varchar);
create table if not exists inputs (key varchar, role varchar, input varchar);
create table if not exists sources (key varchar, path varchar, sha256 varchar, bytes bigint);
create table if not exists metrics (key varchar, name varchar, step bigint, time timestamp, value double);
create table if not exists runs (id varchar primary key, recipe varchar, started timestamp, ended timestamp, status varchar, config json);
create table if not exists run_stages (id varchar, position integer, name varchar, stage varchar, key varchar, reused boolean);
"""
INDEXES = """
create index if not exists inputs_by_key on inputs (key);
create index if not exists inputs_by_input on inputs (input);
"""
"""Lineage follows edges in both directions. Without these indexes, each generation of ancestors costs a scan of all edges."""

BATCH = 2000
"""Number of manifests or run files whose rows are collected before they are written."""
FEW = 200
"""Up to this number, the rows of a table are written one by one."""

_TEXT, _WHOLE, _REAL, _TIME = "string", "int64", "float64", "timestamp[us]"
_TYPES = {
    "artifacts": [_TEXT, _TEXT, _WHOLE, _TIME, _REAL, _WHOLE, _WHOLE, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT],
    "inputs": [_TEXT, _TEXT, _TEXT],
    "sources": [_TEXT, _TEXT, _TEXT, _WHOLE],
    "metrics": [_TEXT, _TEXT, _WHOLE, _TIME, _REAL],
    "runs": [_TEXT, _TEXT, _TIME, _TIME, _TEXT, _TEXT],
    "run_stages": [_TEXT, _WHOLE, _TEXT, _TEXT, _TEXT, "bool"],
}
"""Arrow's names of the columns' types, in the order of the tables' columns."""


class Rows:
    """Rows of some artifacts and runs, by table."""

    def __init__(self) -> None:
        self.tables: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}

    def add_artifact(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Add the rows of a published artifact, whose manifest `read_manifest` has checked.

        Raises `MathQuarryError` naming the manifest if the database cannot hold its values; then no row is added. Raises it naming the file
        of metrics if that is damaged; then the other rows have been added.
        """
        key = manifest["key"]
        try:
            artifacts = _storable([_artifact(folder, manifest)])
            inputs = _storable([(key, role, other) for role, other in manifest["inputs"].items()])
            sources = _storable([(key, str(source["path"]), source["sha256"], source["bytes"]) for source in manifest["sources"]])
        except (ValueError, OverflowError) as error:
            raise _damaged(folder / MANIFEST, error) from error
        self.tables["artifacts"] += artifacts
        self.tables["inputs"] += inputs
        self.tables["sources"] += sources
        self.tables["metrics"] += _metrics(key, folder / "metrics.jsonl")

    def add_run(self, path: Path, run: dict[str, Any]) -> None:
        """Add the rows of a recorded run. Raises `MathQuarryError` naming its file, `path`, if its content is not what a run writes."""
        try:
            key = str(run["id"])
            if key != path.stem:
                raise ValueError(f"it records run {key}")
            ended = None if run["ended"] is None else utc(run["ended"])
            runs = _storable([(key, str(run["recipe"]), utc(run["started"]), ended, str(run["status"]), _json(run["config"]))])
            stages = _storable(
                [(key, i, str(s["name"]), str(s["stage"]), str(s["key"]), bool(s["reused"])) for i, s in enumerate(run["stages"])]
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _damaged(path, error) from error
        self.tables["runs"] += runs
        self.tables["run_stages"] += stages

    def replace(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Write the rows, replacing existing ones of the same artifacts and runs."""
        for owner, name, owned in (("artifacts", "key", ("inputs", "sources", "metrics")), ("runs", "id", ("run_stages",))):
            names = [row[0] for row in self.tables[owner]]
            those = f"where {name} in (select unnest(?::varchar[]))"
            # Most are new, and looking for rows to delete means scanning all metrics.
            known = [key for (key,) in connection.execute(f"select {name} from {owner} {those}", [names]).fetchall()]
            for table in (owner, *owned) if known else ():
                connection.execute(f"delete from {table} {those}", [known])
        self.insert(connection)

    def insert(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Write the rows of artifacts and runs that have none yet."""
        for table, rows in self.tables.items():
            if 0 < len(rows) <= FEW and table != "metrics":  # whose times are whole microseconds
                places = ", ".join("?" * len(rows[0]))
                connection.executemany(f"insert into {table} values ({places})", rows)
            elif rows:
                import pyarrow as pa  # pyarrow imports pandas, which is slow and not needed for few rows

                columns = zip(zip(*rows, strict=True), _TYPES[table], strict=True)
                arrays = [pa.array(column, pa.type_for_alias(kind)) for column, kind in columns]
                batch = pa.Table.from_arrays(arrays, names=[f"column{index}" for index in range(len(arrays))])
                connection.register("batch", batch)
                connection.execute(f"insert into {table} select * from batch")
                connection.unregister("batch")


def rows_of_artifacts(manifests: Iterable[tuple[Path, dict[str, Any]]], damaged: list[Damaged]) -> Iterator[Rows]:
    """Yield the rows of published artifacts, `BATCH` artifacts at a time. Damaged artifacts are added to `damaged`."""
    waiting = iter(manifests)
    while batch := list(islice(waiting, BATCH)):
        rows = Rows()
        for folder, manifest in batch:
            try:
                rows.add_artifact(folder, manifest)
            except MathQuarryError as error:
                damaged.append(Damaged(folder.parent.name, folder.name, str(error)))
        yield rows


def rows_of_runs(runs: Iterable[tuple[Path, dict[str, Any]]], damaged: list[Damaged]) -> Iterator[Rows]:
    """Yield the rows of recorded runs, `BATCH` runs at a time. Damaged run files are added to `damaged`."""
    waiting = iter(runs)
    while batch := list(islice(waiting, BATCH)):
        rows = Rows()
        for path, run in batch:
            try:
                rows.add_run(path, run)
            except MathQuarryError as error:
                damaged.append(Damaged("run", path.stem, str(error)))
        yield rows


def _artifact(folder: Path, manifest: dict[str, Any]) -> tuple[Any, ...]:
    return (
        manifest["key"],
        manifest["stage"],
        manifest["version"],
        utc(manifest["created"]),
        float(manifest["seconds"]),
        sum(file["bytes"] for file in manifest["files"]),
        len(manifest["files"]),
        _json(manifest["config"]),
        _json(manifest["summary"]),
        str(manifest["code"]["version"]),
        str(manifest["code"]["revision"]),
        str(folder),
    )


def _metrics(key: str, path: Path) -> list[tuple[Any, ...]]:
    try:
        return _storable(
            [
                (key, str(name), int(record["step"]), round(record["time"] * 1_000_000), float(value))
                for record in MetricLog(path).read()
                for name, value in record["values"].items()
            ]
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(path, error) from error


def _storable(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows. Raises `ValueError` for text that is not Unicode and for integers beyond 64 bits: one such value of one artifact
    would keep the database from taking any other."""
    for row in rows:
        for cell in row:
            if isinstance(cell, str):
                cell.encode()
            elif isinstance(cell, int) and not -(2**63) <= cell < 2**63:
                raise ValueError("one of its integers has more than 64 bits")
    return rows


def _json(value: Any) -> str:
    # Without escapes, so that lone surrogates, which are no JSON to DuckDB, are found as text that is not Unicode.
    return json.dumps(value, ensure_ascii=False)


def utc(text: str) -> datetime:
    """Convert a time from a manifest or run file to UTC without a zone, as the ledger stores it. Raises `ValueError`."""
    stamp = datetime.fromisoformat(text)
    return stamp.astimezone(UTC).replace(tzinfo=None) if stamp.tzinfo else stamp


def _damaged(path: Path, error: Exception) -> MathQuarryError:
    what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return MathQuarryError(
        f"{path} is damaged: {what}. Restore a complete copy, or delete its folder and make it again with `mathquarry run`."
    )
