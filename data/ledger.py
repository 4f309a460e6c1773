"""The DuckDB ledger: artifacts, their inputs and sources, metrics as time series, and runs, in one file that SQL can ask.

The ledger is an index over manifests (`data/store.py`), never the truth: `sync` rebuilds it from them. DuckDB lets one process write at a
time, and stages run in many, so every connection here is short and waits its turn with jittered retries.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import duckdb

from data.clock import believed, believed_column
from data.errors import MathQuarryError
from data.ledger_rows import DEFINITIONS, INDEXES, TABLES, Rows, rows_of_artifacts, rows_of_runs, utc
from data.manifests import MANIFEST, read_manifest
from data.store import Artifact, Store

LOOKED_UP, SCANNED = 300, 3000
"""Keys that one query looks up in an index of edges, which it does for few only; from how many on one reading of all edges is quicker."""


CLOCK_SECONDS = 2.0
"""How much later than the end that it records a run's file may be written."""


class Edge(NamedTuple):
    """One artifact went into another."""

    key: str
    role: str
    input: str


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
        with _turn(path, read_only, self.patience), _told(path):
            connection = _open_patiently(path, read_only, self.patience)
            try:
                if read_only:
                    self._at_its_place(connection)
                else:
                    connection.execute(DEFINITIONS + INDEXES)
                yield connection
            finally:
                connection.close()

    def _at_its_place(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let rows name the folders of a store that was moved or copied, where they are now."""
        if connection.execute("select 1 from artifacts where not starts_with(path, ?) limit 1", [self._artifacts]).fetchall():
            folders = "'" + self._artifacts.replace("'", "''") + "' || stage || '/' || key"
            database = connection.execute("select current_database()").fetchall()[0][0].replace('"', '""')
            connection.execute(f'create temp view artifacts as select * replace ({folders} as path) from "{database}".main.artifacts')

    @property
    def _artifacts(self) -> str:
        return f"{self.store.root}/artifacts/"

    def record(self, artifact: Artifact) -> None:
        """Write an artifact's rows, replacing earlier ones of the same key."""
        rows = Rows()
        rows.add_artifact(artifact.path, artifact.manifest)
        with self.connect() as connection, _whole(connection):
            rows.replace(connection)

    def sync(self) -> dict[str, int]:
        """Rebuild every row from the manifests and run files. Returns the row counts by table.

        All rows are written or none: after a `MathQuarryError`, which names the file that is damaged, the ledger is as it was.
        """
        with self.connect() as connection:
            with _whole(connection):
                # To drop tables is quicker than to empty them, and an index is quicker made over rows than row by row.
                connection.execute(";".join(f"drop table {table}" for table in TABLES))
                connection.execute(DEFINITIONS)
                for rows in rows_of_artifacts(self.store.manifests()):
                    rows.insert(connection)
                for rows in rows_of_runs(self._run_files(self.store.run_names())):
                    rows.insert(connection)
                connection.execute(INDEXES)
            counted = connection.execute(" union all ".join(f"select '{table}', count(*) from {table}" for table in TABLES)).fetchall()
        return dict(counted)

    def catch_up(self) -> int:
        """Write rows that are missing or old: of artifacts that were published, made again or deleted while the ledger was locked or away,
        and of runs. Returns how many.

        Only what may have changed is read. Raises `MathQuarryError` naming a file that is damaged.
        """
        written = 0
        there = self.store.published()
        with self.connect() as connection, _whole(connection):
            known = dict(connection.execute("select key, created from artifacts").fetchall())
            told = {name: (status, ended) for name, status, ended in connection.execute("select id, status, ended from runs").fetchall()}
            written += self._forget(connection, known.keys() - {key for _, key in there})
            for rows in rows_of_artifacts(self.store.manifests(without=known.keys())):
                rows.insert(connection)
                written += len(rows.tables["artifacts"])
            for rows in rows_of_artifacts(self._made_again(there, known)):
                rows.replace(connection)
                written += len(rows.tables["artifacts"])
            connection.execute(
                "update artifacts set path = ? || stage || '/' || key where not starts_with(path, ?)", [self._artifacts, self._artifacts]
            )
            # Any run may have been retried since, also one that completed: its file is younger then than the end that is told of.
            over = {name for name, (status, ended) in told.items() if status == "completed" and not self._written_after(name, ended)}
            changed = ((path, run) for path, run in self._run_files(self.store.run_names() - over) if _is_news(run, connection))
            for rows in rows_of_runs(changed):
                rows.replace(connection)
                written += len(rows.tables["runs"])
        return written

    def _made_again(self, there: set[tuple[str, str]], known: dict[str, datetime]) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Artifacts that were made again since their rows were written. A manifest's file has the time that it names (`data/store.py`)."""
        for stage, key in sorted(there):
            folder = self.store.folder(stage, key)
            if key not in known or not _is_of_another_time(folder / MANIFEST, known[key]):
                continue
            try:
                manifest = read_manifest(folder)
            except MathQuarryError:
                continue  # its rows stay; `verify` tells of it
            if utc(manifest["created"]) != known[key]:
                yield folder, manifest

    @staticmethod
    def _forget(connection: duckdb.DuckDBPyConnection, keys: Set[str]) -> int:
        """Delete the rows of artifacts that are gone. Returns how many."""
        for table in ("artifacts", "inputs", "sources", "metrics") if keys else ():
            connection.execute(f"delete from {table} where key in (select unnest(?::varchar[]))", [list(keys)])
        return len(keys)

    def _written_after(self, run: str, ended: datetime | None) -> bool:
        path = self.store.run_path(run)
        return ended is None or (path.exists() and path.stat().st_mtime > ended.replace(tzinfo=UTC).timestamp() + CLOCK_SECONDS)

    def _run_files(self, names: set[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
        for name in sorted(names):
            yield self.store.run_path(name), self.store.run(name)

    def query(self, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a read-only query as dictionaries."""
        with self.connect(read_only=True) as connection:
            cursor = connection.execute(sql, parameters or [])
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def newest_run(self) -> str | None:
        """Id of the run that started last. Runs that the ledger does not know as completed are read from their files."""
        over = self.query("select id, started from runs where status = 'completed'") if self.store.ledger_path.exists() else []
        begun = {row["id"]: row["started"] for row in over}
        names = self.store.run_names()
        begun |= {name: utc(self.store.run(name)["started"]) for name in names - begun.keys()}
        return max(names, key=lambda name: believed(begun[name]), default=None)

    def resolve(self, name: str) -> dict[str, Any]:
        """The artifact row that `name` means: a key or its beginning, a name in the newest run that has it (`grpo-2`), or a stage.

        Raises `MathQuarryError` when nothing or several artifacts fit.
        """
        fit = self.query("select key, count(*) over () as count from artifacts where starts_with(key, ?) order by created limit 5", [name])
        if fit and fit[0]["count"] > 1:
            several = ", ".join(row["key"] for row in fit) + (", ..." if fit[0]["count"] > len(fit) else "")
            raise MathQuarryError(f"{name} is the beginning of {fit[0]['count']:,} keys: {several}. Give more of it.")
        fit = (
            fit
            or self.query(
                "select s.key from run_stages s join runs r using (id) where (s.name = ? or s.stage = ?) "
                f"and s.key in (select key from artifacts) order by {believed_column('r.started')} desc, s.position desc limit 1",
                [name, name],
            )
            or self.query(f"select key from artifacts where stage = ? order by {believed_column('created')} desc limit 1", [name])
        )
        if not fit:
            raise MathQuarryError(
                f"the ledger knows no artifact, run stage or stage called {name}. `mathquarry ledger ls` lists what there is."
            )
        return self.query("select * from artifacts where key = ?", [fit[0]["key"]])[0]

    def lineage(self, key: str) -> list[tuple[int, str, dict[str, Any]]]:
        """What made an artifact: (depth, role, artifact row) depth first, the artifact itself at depth 0.

        Rows gain `sources` and `repeated`; one met before is not opened again.
        """
        inputs: dict[str, list[Edge]] = {key: []}
        for edge in sorted(self.follow([key], "up"), key=lambda edge: edge.role):
            inputs.setdefault(edge.input, [])
            inputs.setdefault(edge.key, []).append(edge)
        among = "where key in (select unnest(?::varchar[]))"
        rows = {row["key"]: row for row in self.query(f"select * from artifacts {among}", [list(inputs)])}
        if missing := inputs.keys() - rows.keys():
            raise unknown(missing)
        for row in rows.values():
            row["sources"] = []
        for source in self.query(f"select key, path, sha256, bytes from sources {among} order by path", [list(inputs)]):
            rows[source.pop("key")]["sources"].append(source)
        lines: list[tuple[int, str, dict[str, Any]]] = []
        seen: set[str] = set()
        waiting = [(0, "", key)]
        while waiting:
            depth, role, current = waiting.pop()
            lines.append((depth, role, rows[current] | {"repeated": current in seen}))
            if current not in seen:
                seen.add(current)
                waiting += [(depth + 1, edge.role, edge.input) for edge in reversed(inputs[current])]
        return lines

    def inputs(self, keys: Iterable[str]) -> list[Edge]:
        """Edges from what went into `keys` directly."""
        with self.connect(read_only=True) as connection:
            return _edges(connection, "key", list(keys))

    def descendants(self, key: str) -> set[str]:
        """Keys of every artifact that `key` went into, directly or not."""
        return {edge.key for edge in self.follow([key], "down")} - {key}

    def follow(self, keys: Iterable[str], direction: Literal["up", "down"]) -> list[Edge]:
        """Every edge on the ways to `keys` from what made them (`up`), or from them to what was made of them (`down`)."""
        near, far = ("key", "input") if direction == "up" else ("input", "key")
        found: list[Edge] = []
        seen = set(keys)
        newest = list(seen)
        with self.connect(read_only=True) as connection:
            # Queries a generation: they find their edges by an index, where a recursive query reads all edges each time.
            while newest:
                edges = _edges(connection, near, newest)
                found += edges
                newest = list({getattr(edge, far) for edge in edges} - seen)
                seen.update(newest)
        return found


def _is_of_another_time(path: Path, created: datetime) -> bool:
    try:
        return path.stat().st_mtime_ns // 1000 != round(created.replace(tzinfo=UTC).timestamp() * 1_000_000)
    except OSError:
        return False


def _is_news(run: dict[str, Any], connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a run's file says another thing than its rows do."""
    try:
        name, ended = str(run["id"]), None if run["ended"] is None else utc(run["ended"])
        written = [(stage["name"], stage["key"]) for stage in run["stages"]]
    except (KeyError, TypeError, ValueError):
        return True  # whoever makes rows of it says what is wrong
    told = connection.execute("select status, ended from runs where id = ?", [name]).fetchall()
    stages = connection.execute("select name, key from run_stages where id = ? order by position", [name]).fetchall()
    return told != [(run.get("status"), ended)] or stages != written


def _edges(connection: duckdb.DuckDBPyConnection, end: str, keys: list[str]) -> list[Edge]:
    """Edges with one of `keys` at that end."""
    sql = "select key, role, input from inputs where"
    if len(keys) > SCANNED:
        found = connection.execute(f"{sql} {end} in (select unnest(?::varchar[]))", [keys]).fetchall()
    else:
        groups = [keys[start : start + LOOKED_UP] for start in range(0, len(keys), LOOKED_UP)]
        found = [row for group in groups for row in connection.execute(f"{sql} {end} in ({', '.join('?' * len(group))})", group).fetchall()]
    return [Edge(*row) for row in found]


def unknown(keys: Iterable[str]) -> MathQuarryError:
    """The error about keys that the ledger names and has no row for."""
    return MathQuarryError(f"the ledger has no row for {', '.join(sorted(keys))}. `mathquarry ledger sync` rebuilds it from the artifacts.")


@contextmanager
def _whole(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One transaction: after an error inside, the connection closes without a commit and the ledger is as it was."""
    connection.execute("begin")
    yield
    connection.execute("commit")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of DuckDB as `MathQuarryError`, with what helps."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        if path.is_dir() or (path.is_symlink() and not path.exists()):
            advice = "It is no file: move it away and run `mathquarry ledger sync`."
        elif "No space left" in text or "Disk quota" in text or "Could not write" in text:
            advice = "Free some space, then run `mathquarry ledger sync`."
        elif "Permission denied" in text or "Read-only file system" in text:
            advice = "Give yourself the rights to it, or work in another store."
        else:
            advice = "Nothing is lost: delete it, with the `.wal` file beside it, and run `mathquarry ledger sync` to rebuild it."
        raise MathQuarryError(f"{path} cannot be used: {text} {advice}") from error


@contextmanager
def _turn(path: Path, read_only: bool, patience: float) -> Iterator[None]:
    """Wait until no other process of ours has the ledger open, or until none writes to it.

    DuckDB's own lock is not enough: of three processes that opened, wrote and closed one file 300 times each, about every second trial of
    DuckDB 2.0.0 lost a row or met a file that was no database.
    """
    try:
        file = os.open(f"{path}.lock", os.O_RDONLY | os.O_CREAT, 0o666)
    except OSError:
        if not read_only:
            raise
        yield  # a store that cannot be written to, a mount for reading only
        return
    try:
        deadline = time.monotonic() + patience
        for wait in _pauses():
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _locked(path, patience) from None
                time.sleep(wait)
        yield
    finally:
        os.close(file)


def _open_patiently(path: Path, read_only: bool, patience: float) -> duckdb.DuckDBPyConnection:
    """Wait while a program of somebody else's has the file open."""
    deadline = time.monotonic() + patience
    for wait in _pauses():
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise _locked(path, patience) from error
            time.sleep(wait)
    raise AssertionError("pauses never end")


def _pauses() -> Iterator[float]:
    """Seconds between attempts, at random, so that those who wait do not come together again."""
    wait = 0.002
    while True:
        yield random.uniform(0, wait)
        wait = min(2 * wait, 0.25)


def _locked(path: Path, patience: float) -> MathQuarryError:
    return MathQuarryError(
        f"{path} has been locked by another process for {patience:.0f} s. Nothing is lost: `mathquarry ledger sync` adds the rows later."
    )
