"""SQL over a whole store: the ledger's tables, and the artifacts' own files read in place.

| view | a row is | from |
|---|---|---|
| `artifacts`, `inputs`, `sources`, `metrics`, `runs`, `run_stages` | see `data/ledger/ledger.py` | the ledger |
| `edges` | an artifact that went into another, with both stages | the ledger |
| `pages`, `dropped`, `domains` | a page of a corpus; a dropped record, and why; a host | stage `mine` |
| `problems` | a problem, with its part (train, test, benchmarks) | stage `problems` |
| `solutions` | a sampled solution, kept or not | stage `rejection` |
| `reward_data` | a solution that a reward model learned from | stage `reward` |
| `rollouts` | a completion of a GRPO step | stage `grpo` |
| `answers` | an evaluated completion and its verdict | stage `evaluate` |
| `samples` | a sampled page to review a corpus by | stage `mine` |
| `json_files` | a JSON file: its name and its content | all stages |

Each view of a stage has a column `artifact`, the key. A view exists if some artifact has such rows. Only the views that a query names are
made, since making one lists the files of every artifact of its stage.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger


class _Rows(NamedTuple):
    stage: str  # a GLOB pattern
    patterns: tuple[str, ...]
    """Globs of the files within an artifact."""
    reader: str = "read_parquet({files}, filename = true, union_by_name = true)"
    columns: str = ""


_READ_JSON = "(select filename, parse_filename(filename) as file, content::json as content from read_text({files}))"
_READ_PROBLEMS = """read_json({files}, filename = true, columns = {{id: 'varchar', question: 'varchar', answer: 'varchar',
solution: 'varchar', language: 'varchar', source: 'varchar', tolerance: 'double'}})"""
_VIEWS = {
    "pages": _Rows("mine", ("corpus/*.parquet",)),
    "dropped": _Rows("mine", ("dropped.parquet",)),
    "domains": _Rows("mine", ("domains.parquet",)),
    "problems": _Rows(
        "problems",
        ("train.jsonl", "test.jsonl", "benchmarks.jsonl"),
        _READ_PROBLEMS,
        "regexp_extract(filename, '([^/]+)[.]jsonl$', 1) as part, ",
    ),
    "solutions": _Rows("rejection", ("solutions.parquet",)),
    "reward_data": _Rows("reward", ("reward_data.parquet",)),
    "rollouts": _Rows("grpo", ("rollouts.parquet",)),
    "answers": _Rows("evaluate", ("answers.parquet",)),
    "samples": _Rows("mine", ("samples.parquet",)),
    "json_files": _Rows("*", ("*.json",), _READ_JSON),
}
_EDGES = """
create temp view edges as select i.key, a.stage, i.role, i.input, b.stage as input_stage
from inputs i join artifacts a on a.key = i.key left join artifacts b on b.key = i.input
"""


_OPTION = r"(?:analyze|format\s+\w+)"
_EXPLAIN = re.compile(rf"\s*explain(?:\s+analyze\b|\s*\(\s*{_OPTION}(?:\s*,\s*{_OPTION})*\s*\))?", re.IGNORECASE | re.ASCII)


class Answer(NamedTuple):
    """The result of a query."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def ask(ledger: Ledger, sql: str, limit: int | None = None) -> Answer:
    """Run one read-only query and return up to `limit` rows.

    Raises `MathQuarryError` when it is not a single query, is invalid, or would write.
    """
    if sql.encode("utf-8", "replace").decode() != sql:
        raise MathQuarryError("the query has bytes that are not UTF-8.")
    with ledger.connect(read_only=True) as connection:
        try:
            statements = connection.extract_statements(sql)
        except duckdb.Error as error:
            raise MathQuarryError(f"DuckDB does not understand this SQL: {error}") from None
        if len(statements) != 1 or not _reads(connection, statements[0]):
            allowed = "`select`, `with`, `from`, `describe` or `explain`"
            raise MathQuarryError(f"one query at a time, and only {allowed}: the ledger is read-only here.")
        try:
            make_views(connection, _named(connection, sql))
            _confine(connection, ledger.store.root)
            found = connection.execute(statements[0])
            rows = found.fetchall() if limit is None else found.fetchmany(limit)
            return Answer([column[0] for column in found.description], rows)
        except duckdb.Error as error:
            raise MathQuarryError(f"the query failed: {error}") from None


def _reads(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> bool:
    """Whether a statement is a query or explains one. `explain analyze` runs what it explains, even `copy ... to`."""
    if statement.type != duckdb.StatementType.EXPLAIN:
        return bool(statement.type == duckdb.StatementType.SELECT)
    # Comments are not stripped here: only DuckDB's own parser can tell what they hide.
    head = _EXPLAIN.match(statement.query)
    if head is None:
        return False
    try:
        explained = connection.extract_statements(statement.query[head.end() :])
    except duckdb.Error:
        return False
    return [one.type for one in explained] == [duckdb.StatementType.SELECT]


def _confine(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Confine later queries: they can read only files of the store, load nothing, and not undo this."""
    folders = ", ".join("'" + str(root / name).replace("'", "''") + "'" for name in ("artifacts", "runs"))
    connection.execute(
        "set autoinstall_known_extensions = false; set autoload_known_extensions = false; set python_enable_replacements = false;"
        f"set allowed_directories = [{folders}]; set enable_external_access = false; set lock_configuration = true"
    )


def make_views(connection: duckdb.DuckDBPyConnection, names: Collection[str]) -> None:
    """Make the view `edges`, and those of the views in `names` that have rows."""
    # DuckDB 2.0.0 rewrites a window over a whole partition as a join whose other side reads the files of all artifacts.
    connection.execute("set disabled_optimizers = 'window_self_join'")
    connection.execute(_EDGES)
    for name in names:
        rows = _VIEWS[name]
        folders = connection.execute("select path from artifacts where stage glob ? order by created", [rows.stage]).fetchall()
        files = [str(file) for (folder,) in folders for pattern in rows.patterns for file in sorted(Path(folder).glob(pattern))]
        if files:
            listed = "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"
            connection.execute(
                f"create temp view {name} as select regexp_extract(filename, '/artifacts/[^/]+/([0-9a-f]+)/', 1) as artifact, "
                f"{rows.columns}* exclude (filename) from {rows.reader.format(files=listed)}"
            )


def _named(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """The views of stages that a query reads. All of them if it reads no table, since it may ask for a list (`show tables`)."""
    try:
        tables = {name.lower() for name in connection.get_table_names(sql)}
    except duckdb.Error:
        # For some statements (`show pages`, `pivot`) DuckDB does not tell: then every view whose name occurs as a word is made.
        tables = set(re.findall(r"\w+", sql.lower()))
    return [name for name in _VIEWS if not tables or name in tables]


def affected(ledger: Ledger, condition: str, value: str) -> list[tuple[str, str, int]]:
    """Artifacts that contain `value`, with the number of rows, and everything made from them (0 rows): (stage, key, rows), oldest first.

    `condition` is `site` (a host and its subdomains), `url` (as the corpus spells it) or `problem` (an id).
    """
    queries = {
        "site": ("pages", "host = ? or ends_with(host, '.' || ?)", 2),
        "url": ("pages", "url = ?", 1),
        "problem": ("problems", "id = ?", 1),
    }
    view, where, count = queries[condition]
    with ledger.connect(read_only=True) as connection:
        make_views(connection, [view])
        if not connection.execute("select 1 from duckdb_views() where view_name = ?", [view]).fetchall():
            return []
        held = dict(connection.execute(f"select artifact, count(*) from {view} where {where} group by all", [value] * count).fetchall())
    keys = list({edge.key for edge in ledger.follow(held, "down")} | held.keys())
    made = ledger.query("select stage, key from artifacts where key in (select unnest(?::varchar[])) order by created, key", [keys])
    return [(row["stage"], row["key"], held.get(row["key"], 0)) for row in made]
