"""The DuckDB ledger: artifacts, their inputs and sources, metrics as time series, and runs, in one file that SQL can ask.

The ledger is an index over manifests (`data/store.py`), never the truth: `sync` rebuilds it from them. DuckDB lets one process write at a
time, and stages run in many, so every connection here is short and waits its turn with jittered retries.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from data.errors import MathQuarryError
from data.store import Artifact, Store
from data.workspace import MetricLog

TABLES = ("artifacts", "inputs", "sources", "metrics", "runs", "run_stages")
SCHEMA = """
create table if not exists artifacts (key varchar primary key, stage varchar, version integer, created timestamp, seconds double,
    bytes bigint, files integer, config json, summary json, code_version varchar, code_revision varchar, path varchar);
create table if not exists inputs (key varchar, role varchar, input varchar, primary key (key, role));
create table if not exists sources (key varchar, path varchar, sha256 varchar, bytes bigint);
create table if not exists metrics (key varchar, name varchar, step bigint, time timestamp, value double);
create table if not exists runs (id varchar primary key, recipe varchar, started timestamp, ended timestamp, status varchar, config json);
create table if not exists run_stages (id varchar, position integer, name varchar, stage varchar, key varchar, reused boolean);
"""


class Ledger:
    """The ledger of one store. Raises `MathQuarryError` when another process keeps the file locked for more than `patience` seconds."""

    def __init__(self, store: Store, patience: float = 60.0) -> None:
        self.store = store
        self.patience = patience

    @contextmanager
    def connect(self, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A short-lived connection; keep it open for as little as possible."""
        path = self.store.ledger_path
        if read_only and not path.exists():
            raise MathQuarryError(f"{path} does not exist. `mathquarry ledger sync` rebuilds it from the artifacts.")
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _open_patiently(path, read_only, self.patience)
        try:
            if not read_only:
                connection.execute(SCHEMA)
            yield connection
        finally:
            connection.close()

    def record(self, artifact: Artifact) -> None:
        """Write an artifact's rows, replacing earlier ones of the same key."""
        with self.connect() as connection:
            _insert_artifact(connection, artifact.path, artifact.manifest)

    def sync(self) -> dict[str, int]:
        """Rebuild every row from the manifests and run files. Returns the row counts by table."""
        with self.connect() as connection:
            connection.execute("begin")
            for table in TABLES:
                connection.execute(f"delete from {table}")
            for folder, manifest in self.store.manifests():
                _insert_artifact(connection, folder, manifest)
            for run in self.store.runs():
                _insert_run(connection, run)
            connection.execute("commit")
            counted = connection.execute(" union all ".join(f"select '{table}', count(*) from {table}" for table in TABLES)).fetchall()
        return dict(counted)

    def catch_up(self) -> int:
        """Write rows that are missing: of artifacts published while the ledger was locked or away, and of runs. Returns how many."""
        with self.connect() as connection:
            known = {row[0] for row in connection.execute("select key from artifacts").fetchall()}
            told = set(connection.execute("select id, status from runs").fetchall())
            missing = [(folder, manifest) for folder, manifest in self.store.manifests() if manifest["key"] not in known]
            runs = [run for run in self.store.runs() if (run["id"], run["status"]) not in told]
            for folder, manifest in missing:
                _insert_artifact(connection, folder, manifest)
            for run in runs:
                _insert_run(connection, run)
        return len(missing) + len(runs)

    def query(self, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a read-only query as dictionaries."""
        with self.connect(read_only=True) as connection:
            cursor = connection.execute(sql, parameters or [])
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def resolve(self, name: str) -> dict[str, Any]:
        """The artifact row that `name` means: a key or its beginning, a name in the newest run that has it (`grpo-2`), or a stage.

        Raises `MathQuarryError` when nothing or several artifacts fit.
        """
        rows = self.query("select * from artifacts where starts_with(key, ?) order by created", [name])
        if len(rows) > 1:
            raise MathQuarryError(f"{name} is the beginning of {len(rows)} keys: {', '.join(row['key'] for row in rows)}. Give more of it.")
        if not rows:
            rows = self.query(
                "select a.* from run_stages s join runs r using (id) join artifacts a using (key) "
                "where s.name = ? or s.stage = ? order by r.started desc, s.position desc limit 1",
                [name, name],
            ) or self.query("select * from artifacts where stage = ? order by created desc limit 1", [name])
        if not rows:
            raise MathQuarryError(
                f"the ledger knows no artifact, run stage or stage called {name}. `mathquarry ledger ls` lists what there is."
            )
        return rows[0]

    def lineage(self, key: str) -> list[tuple[int, str, dict[str, Any]]]:
        """What made an artifact: (depth, role, artifact row) depth first, the artifact itself at depth 0.

        Rows gain `sources` and `repeated`; one met before is not opened again.
        """
        lines: list[tuple[int, str, dict[str, Any]]] = []
        seen: set[str] = set()

        def visit(current: str, depth: int, role: str) -> None:
            rows = self.query("select * from artifacts where key = ?", [current])
            if not rows:
                raise MathQuarryError(f"the ledger has no row for {current}. `mathquarry ledger sync` rebuilds it from the artifacts.")
            row = rows[0]
            row["sources"] = self.query("select path, sha256, bytes from sources where key = ? order by path", [current])
            row["repeated"] = current in seen
            lines.append((depth, role, row))
            if current in seen:
                return
            seen.add(current)
            for edge in self.query("select role, input from inputs where key = ? order by role", [current]):
                visit(edge["input"], depth + 1, edge["role"])

        visit(key, 0, "")
        return lines

    def descendants(self, key: str) -> set[str]:
        """Keys of every artifact that `key` went into, directly or not."""
        rows = self.query(
            "with recursive made(key) as (select ? union select i.key from inputs i join made m on i.input = m.key) select key from made",
            [key],
        )
        return {row["key"] for row in rows} - {key}


def _open_patiently(path: Path, read_only: bool, patience: float) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + patience
    wait = 0.002
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise MathQuarryError(
                    f"{path} cannot be opened: {error}. Delete it and run `mathquarry ledger sync` to rebuild it."
                ) from error
            if time.monotonic() > deadline:
                raise MathQuarryError(
                    f"{path} has been locked by another process for {patience:.0f} s. Nothing is lost: "
                    "`mathquarry ledger sync` adds the rows later."
                ) from error
            time.sleep(random.uniform(0, wait))
            wait = min(2 * wait, 0.25)


def _insert_artifact(connection: duckdb.DuckDBPyConnection, folder: Path, manifest: dict[str, Any]) -> None:
    key = manifest["key"]
    for table in ("artifacts", "inputs", "sources", "metrics"):
        connection.execute(f"delete from {table} where key = ?", [key])
    connection.execute(
        "insert into artifacts values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            key,
            manifest["stage"],
            manifest["version"],
            manifest["created"],
            manifest["seconds"],
            sum(file["bytes"] for file in manifest["files"]),
            len(manifest["files"]),
            json.dumps(manifest["config"]),
            json.dumps(manifest["summary"]),
            manifest["code"]["version"],
            manifest["code"]["revision"],
            str(folder),
        ],
    )
    _insert_many(connection, "inputs", [[key, role, other] for role, other in manifest["inputs"].items()])
    _insert_many(connection, "sources", [[key, s["path"], s["sha256"], s["bytes"]] for s in manifest["sources"]])
    if (folder / "metrics.jsonl").exists():
        _insert_metrics(connection, key, folder / "metrics.jsonl")


def _insert_metrics(connection: duckdb.DuckDBPyConnection, key: str, path: Path) -> None:
    rows = [
        (key, name, record["step"], record["time"], float(value))
        for record in MetricLog(path).read()
        for name, value in record["values"].items()
    ]
    if rows:
        # One statement over lists: a row at a time takes a millisecond each.
        columns = [list(column) for column in zip(*rows, strict=True)]
        connection.execute(
            "insert into metrics select unnest(?), unnest(?), unnest(?), make_timestamp((unnest(?) * 1000000)::bigint), unnest(?)",
            columns,
        )


def _insert_run(connection: duckdb.DuckDBPyConnection, run: dict[str, Any]) -> None:
    connection.execute("delete from runs where id = ?", [run["id"]])
    connection.execute("delete from run_stages where id = ?", [run["id"]])
    connection.execute(
        "insert into runs values (?, ?, ?, ?, ?, ?)",
        [run["id"], run["recipe"], run["started"], run["ended"], run["status"], json.dumps(run["config"])],
    )
    stages = [[run["id"], i, s["name"], s["stage"], s["key"], s["reused"]] for i, s in enumerate(run["stages"])]
    _insert_many(connection, "run_stages", stages)


def _insert_many(connection: duckdb.DuckDBPyConnection, table: str, rows: list[list[Any]]) -> None:
    if rows:
        connection.executemany(f"insert into {table} values ({', '.join('?' * len(rows[0]))})", rows)
