"""The edges between artifacts and their inputs, followed in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import duckdb

LOOKED_UP, SCANNED = 300, 3000
"""Keys per query that DuckDB still looks up in the index of edges; and the number of keys above which one scan of all edges is faster."""


class Edge(NamedTuple):
    """One artifact went into another."""

    key: str
    role: str
    input: str


def follow(connection: duckdb.DuckDBPyConnection, keys: Iterable[str], direction: Literal["up", "down"]) -> list[Edge]:
    """Every edge on the paths from `keys` to their ancestors (`up`) or to their descendants (`down`).

    Runs one query per generation: each uses an index, whereas a recursive query reads all edges each time.
    """
    near, far = ("key", "input") if direction == "up" else ("input", "key")
    found: list[Edge] = []
    seen = set(keys)
    newest = list(seen)
    while newest:
        met = edges(connection, near, newest)
        found += met
        newest = list({getattr(edge, far) for edge in met} - seen)
        seen.update(newest)
    return found


def edges(connection: duckdb.DuckDBPyConnection, end: str, keys: list[str]) -> list[Edge]:
    """Edges with one of `keys` in the column `end`."""
    sql = "select key, role, input from inputs where"
    if len(keys) > SCANNED:
        found = connection.execute(f"{sql} {end} in (select unnest(?::varchar[]))", [keys]).fetchall()
    else:
        groups = [keys[start : start + LOOKED_UP] for start in range(0, len(keys), LOOKED_UP)]
        found = [row for group in groups for row in connection.execute(f"{sql} {end} in ({', '.join('?' * len(group))})", group).fetchall()]
    return [Edge(*row) for row in found]
