"""The DuckDB ledger: artifacts, their inputs and sources, metrics as time series, and runs, in one file to query with SQL.

The ledger is only an index over manifests (`data/store/store.py`): `sync` rebuilds it from them. DuckDB lets one process write at a time,
and stages run in many processes, so every connection here is short and waits its turn with jittered retries.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import duckdb

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.edges import Edge, edges, follow
from mathquarry.data.ledger.file import opened, whole
from mathquarry.data.ledger.rebuild import put_back, set_aside
from mathquarry.data.ledger.rows import DEFINITIONS, INDEXES, TABLES, Rows, rows_of_artifacts, rows_of_runs, utc
from mathquarry.data.store.clock import believed, believed_column
from mathquarry.data.store.manifests import MANIFEST, read_manifest
from mathquarry.data.store.published import Damaged
from mathquarry.data.store.store import Artifact, Store

logger = logging.getLogger("mathquarry")


CLOCK_SECONDS = 2.0
"""How many seconds after the run's recorded end its file may be written."""


class Synced(NamedTuple):
    """The result of `Ledger.sync`."""

    rows: dict[str, int]
    """Number of rows by table."""
    damaged: list[Damaged]
    """Artifacts and runs that were skipped."""


class Ledger:
    """The ledger of one store. Raises `MathQuarryError` when another process keeps the file locked for more than `patience` seconds."""

    def __init__(self, store: Store, patience: float = 60.0) -> None:
        self.store = store
        self.patience = patience

    @contextmanager
    def connect(self, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A short-lived connection; keep it open for as little as possible."""
        with opened(self.store.ledger_path, read_only, self.patience) as connection:
            if read_only:
                self._at_its_place(connection)
            else:
                connection.execute(DEFINITIONS + INDEXES)
            yield connection

    def _at_its_place(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make rows show the current folders if the store was moved or copied."""
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
        with self.connect() as connection, whole(connection):
            rows.replace(connection)

    def sync(self) -> Synced:
        """Rebuild every row from the manifests and run files. All rows are written or none.

        Damaged artifacts and runs are skipped and reported. Their earlier rows stay, except metrics: a key always means the same inputs.
        """
        damaged: list[Damaged] = []
        with self.connect() as connection:
            with whole(connection):
                before = set_aside(connection)
                # Dropping tables is faster than emptying them, and so is building an index after the rows are written.
                connection.execute(";".join(f"drop table {table}" for table in TABLES))
                connection.execute(DEFINITIONS)
                for rows in rows_of_artifacts(self.store.manifests(damaged=damaged), damaged):
                    rows.insert(connection)
                for rows in rows_of_runs(self._run_files(self.store.run_names(), damaged), damaged):
                    rows.insert(connection)
                put_back(connection, before, [one.key for one in damaged])
                connection.execute(INDEXES)
            counted = connection.execute(" union all ".join(f"select '{table}', count(*) from {table}" for table in TABLES)).fetchall()
        return Synced(dict(counted), damaged)

    def catch_up(self) -> int:
        """Write missing or outdated rows of runs, and of artifacts published, made again or deleted while the ledger was unavailable.

        Reads only what may have changed. Skips what is damaged, with a warning in the log. Returns the number of changes.
        """
        written = 0
        damaged: list[Damaged] = []
        there = self.store.published()
        with self.connect() as connection, whole(connection):
            known = dict(connection.execute("select key, created from artifacts").fetchall())
            told = {name: (status, ended) for name, status, ended in connection.execute("select id, status, ended from runs").fetchall()}
            written += self._forget(connection, known.keys() - {key for _, key in there})
            for rows in rows_of_artifacts(self.store.manifests(without=known.keys(), damaged=damaged), damaged):
                rows.insert(connection)
                written += len(rows.tables["artifacts"])
            for rows in rows_of_artifacts(self._made_again(there, known), damaged):
                rows.replace(connection)
                written += len(rows.tables["artifacts"])
            connection.execute(
                "update artifacts set path = ? || stage || '/' || key where not starts_with(path, ?)", [self._artifacts, self._artifacts]
            )
            # Any run may have been retried since, even a completed one: then its file is newer than its recorded end.
            over = {name for name, (status, ended) in told.items() if status == "completed" and not self._written_after(name, ended)}
            files = self._run_files(self.store.run_names() - over, damaged)
            changed = ((path, run) for path, run in files if _is_news(run, connection))
            for rows in rows_of_runs(changed, damaged):
                rows.replace(connection)
                written += len(rows.tables["runs"])
        for one in damaged:
            logger.warning("the ledger lacks %s", one)
        return written

    def _made_again(self, there: set[tuple[str, str]], known: dict[str, datetime]) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Artifacts that were made again since their rows were written. A manifest's modification time is its creation time
        (`data/store/artifacts.py`)."""
        for stage, key in sorted(there):
            folder = self.store.folder(stage, key)
            if key not in known or not _is_of_another_time(folder / MANIFEST, known[key]):
                continue
            try:
                manifest = read_manifest(folder)
            except MathQuarryError:
                continue  # its rows stay; `verify` reports it
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

    def _run_files(self, names: set[str], damaged: list[Damaged]) -> Iterator[tuple[Path, dict[str, Any]]]:
        for name in sorted(names):
            try:
                yield self.store.run_path(name), self.store.run(name)
            except MathQuarryError as error:
                damaged.append(Damaged("run", name, str(error)))

    def query(self, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a read-only query as dictionaries."""
        with self.connect(read_only=True) as connection:
            cursor = connection.execute(sql, parameters or [])
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def newest_run(self) -> str | None:
        """Id of the run that started last. Runs that the ledger does not list as completed are read from their files."""
        over = self.query("select id, started from runs where status = 'completed'") if self.store.ledger_path.exists() else []
        begun = {row["id"]: row["started"] for row in over}
        names = self.store.run_names()
        for name in names - begun.keys():
            try:
                begun[name] = utc(self.store.run(name)["started"])
            except (MathQuarryError, KeyError, TypeError, ValueError):
                continue  # damaged: `verify` reports it
        return max(names & begun.keys(), key=lambda name: believed(begun[name]), default=None)

    def resolve(self, name: str) -> dict[str, Any]:
        """The artifact row that `name` means: a key or its beginning, a name in the newest run that has it (`grpo-2`), or a stage.

        Raises `MathQuarryError` when no artifact matches, or several do.
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
        """Return the inputs of an artifact, recursively: (depth, role, artifact row) depth first, the artifact itself at depth 0.

        Rows gain `sources` and `repeated`; the inputs of a repeated artifact are not listed again.
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

    def known_inputs(self, keys: Iterable[str]) -> dict[str, set[str]]:
        """The inputs of those of `keys` that the ledger has rows for."""
        there = self.query("select key from artifacts where key in (select unnest(?::varchar[]))", [list(keys)])
        found: dict[str, set[str]] = {row["key"]: set() for row in there}
        for edge in self.inputs(found):
            found[edge.key].add(edge.input)
        return found

    def inputs(self, keys: Iterable[str]) -> list[Edge]:
        """Edges to the direct inputs of `keys`."""
        with self.connect(read_only=True) as connection:
            return edges(connection, "key", list(keys))

    def descendants(self, key: str) -> set[str]:
        """Keys of every artifact that `key` went into, directly or not."""
        return {edge.key for edge in self.follow([key], "down")} - {key}

    def follow(self, keys: Iterable[str], direction: Literal["up", "down"]) -> list[Edge]:
        """Every edge on the paths from `keys` to their ancestors (`up`) or to their descendants (`down`)."""
        with self.connect(read_only=True) as connection:
            return follow(connection, keys, direction)


def _is_of_another_time(path: Path, created: datetime) -> bool:
    try:
        return path.stat().st_mtime_ns // 1000 != round(created.replace(tzinfo=UTC).timestamp() * 1_000_000)
    except OSError:
        return False


def _is_news(run: dict[str, Any], connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a run's file differs from its rows."""
    try:
        name, ended = str(run["id"]), None if run["ended"] is None else utc(run["ended"])
        written = [(stage["name"], stage["key"]) for stage in run["stages"]]
    except (KeyError, TypeError, ValueError):
        return True  # the code that makes its rows reports what is wrong
    told = connection.execute("select status, ended from runs where id = ?", [name]).fetchall()
    stages = connection.execute("select name, key from run_stages where id = ? order by position", [name]).fetchall()
    return told != [(run.get("status"), ended)] or stages != written


def unknown(keys: Iterable[str]) -> MathQuarryError:
    """The error for keys that the ledger mentions but has no row for."""
    return MathQuarryError(f"the ledger has no row for {', '.join(sorted(keys))}. `mathquarry ledger sync` rebuilds it from the artifacts.")
