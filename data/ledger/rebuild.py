"""Rows that a rebuilt ledger keeps: those of artifacts whose manifests cannot be read now."""

from __future__ import annotations

from typing import Any

import duckdb

KEYS = {"artifacts": "key", "inputs": "key", "sources": "key", "runs": "id", "run_stages": "id"}
"""The column that identifies a row's artifact or run."""


def set_aside(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Copy all tables except the large one, metrics, to `<table>_before`. Returns each table's columns."""
    columns = {}
    for table in KEYS:
        connection.execute(f"create temp table {table}_before as select * from {table}")
        columns[table] = _columns(connection, table)
    return columns


def put_back(connection: duckdb.DuckDBPyConnection, before: dict[str, list[tuple[Any, ...]]], damaged: list[str]) -> None:
    """Restore the rows of damaged artifacts and runs, unless another version of MathQuarry wrote them."""
    for table, key in KEYS.items():
        if damaged and before[table] == _columns(connection, table):
            those = f"{key} in (select unnest(?::varchar[])) and {key} not in (select {key} from {table})"
            connection.execute(f"insert into {table} select * from {table}_before where {those}", [damaged])
        connection.execute(f"drop table {table}_before")


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[Any, ...]]:
    return [(name, kind) for name, kind, *_ in connection.execute(f"describe {table}").fetchall()]
