"""SQL over a store reads the store, cannot write, and reads nothing outside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.ledger.sql import ask
from mathquarry.data.store.store import Identity, Store
from mathquarry.data.store.workspace import Workspace


def work(workspace: Workspace) -> dict[str, Any]:
    (workspace.out / "notes.json").write_text("{}")
    return {}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(Store(tmp_path / "store"))
    ledger.record(ledger.store.build(Identity("mine", 1, {}, {}), work))
    (tmp_path / "secret.txt").write_text("secret")
    return ledger


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to '{out}'",
        "explain copy (select 1) to '{out}'",
        "explain analyze copy (select 1) to '{out}'",
        "EXPLAIN\nANALYZE copy artifacts to '{out}' (format parquet)",
        "explain (analyze) copy (select 1) to '{out}'",
        "explain (analyze, format json) copy (select 1) to '{out}'",
        "explain /* x */ analyze copy (select 1) to '{out}'",
        "explain /* /* */ select 1 -- */ analyze copy (select 1) to '{out}'",
        "-- x\nexplain analyze copy (select 1) to '{out}'",
        "explain analyze export database '{out}'",
        "explain analyze attach '{out}' as y",
        "explain analyze create temp table x as select 1",
        "explain analyze delete from artifacts",
        "explain analyze set threads = 1",
        "prepare p as copy (select 1) to '{out}'",
        "select * from query($$copy (select 1) to '{out}'$$)",
        "with x as (delete from artifacts returning key) select * from x",
        "select 1; copy (select 1) to '{out}'",
        "select * from read_text('{secret}')",
        "select * from '{secret}'",
        "select * from read_csv('/etc/passwd')",
        "select * from glob('/etc/*')",
        "select * from read_text('{store}/artifacts/../../secret.txt')",
        "from read_csv('http://127.0.0.1:9/x.csv')",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "attach '{out}' as x",
    ],
)
def test_sql_cannot_write_or_leave_the_store(ledger: Ledger, tmp_path: Path, sql: str) -> None:
    out = ledger.store.root / "artifacts" / "out"
    with pytest.raises(MathQuarryError):
        ask(ledger, sql.format(out=out, secret=tmp_path / "secret.txt", store=ledger.store.root))
    assert not out.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from artifacts",
        "from artifacts",
        "describe artifacts",
        "explain select 1",
        "explain analyze select count(*) from artifacts",
        "explain (analyze, format json) select 1",
        "select file from json_files",
        "select count(*) from read_text('{store}/artifacts/mine/*/manifest.json')",
    ],
)
def test_sql_reads_the_store(ledger: Ledger, sql: str) -> None:
    assert ask(ledger, sql.format(store=ledger.store.root)).rows


@pytest.mark.parametrize("sql", ["\ud800", "select '\udfff'", "select " + "(" * 20_000 + "1" + ")" * 20_000, "select '" + "(" * 20_000])
def test_a_query_that_is_no_text_or_too_deep_is_one_clear_error(ledger: Ledger, sql: str) -> None:
    with pytest.raises(MathQuarryError):
        ask(ledger, sql)
