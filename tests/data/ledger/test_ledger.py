"""The ledger: rows from manifests, lineage both ways, rebuilding, waiting for the lock."""

from __future__ import annotations

import json
import multiprocessing
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.ledger.rows import TABLES
from mathquarry.data.store.sources import Source
from mathquarry.data.store.store import Artifact, Identity, Store
from mathquarry.data.store.workspace import MetricLog, Workspace
from mathquarry.flows.__main__ import main


def work(workspace: Workspace) -> dict[str, Any]:
    for step in range(3):
        workspace.metrics.log(step, loss=3.0 - step, tokens=10 * step)
    return {"pages": 7}


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Ledger, list[Artifact]]:
    """crawl -> mine -> sft, each recorded."""
    store = Store(tmp_path)
    ledger = Ledger(store)
    crawl = store.build(Identity("crawl", 1, {}, {}, (Source("a.warc.gz", "ab" * 32, 99),)), work)
    mine = store.build(Identity("mine", 1, {"rounds": 4}, {"crawl": crawl.key}), work)
    sft = store.build(Identity("sft", 1, {}, {"corpus": mine.key, "crawl": crawl.key}), work)
    for artifact in (crawl, mine, sft):
        ledger.record(artifact)
    run = {"id": "r1", "recipe": "tiny", "started": "2024-02-05T00:00:00Z", "ended": None, "status": "running", "config": {}}
    run["stages"] = [{"name": "sft", "stage": "sft", "key": sft.key, "reused": False}]
    store.write_run(run)
    ledger.catch_up()
    return ledger, [crawl, mine, sft]


def rows(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    return {table: ledger.query(f"select * from {table} order by all") for table in TABLES}


def test_metrics_are_time_series(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (_, mine, _) = chain
    series = ledger.query("select step, value, epoch(time) as time from metrics where key = ? and name = 'loss' order by step", [mine.key])
    assert [(row["step"], row["value"]) for row in series] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    logged = [record["time"] for record in MetricLog(mine.path / "metrics.jsonl").read()]
    assert [row["time"] for row in series] == pytest.approx(logged, abs=1e-5)


def test_lineage_goes_back_to_files_and_opens_each_artifact_once(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (crawl, mine, sft) = chain
    lines = [(depth, role, row["key"], row["repeated"]) for depth, role, row in ledger.lineage(sft.key)]
    assert lines == [
        (0, "", sft.key, False),
        (1, "corpus", mine.key, False),
        (2, "crawl", crawl.key, False),
        (1, "crawl", crawl.key, True),
    ]
    assert ledger.lineage(sft.key)[2][2]["sources"] == [{"path": "a.warc.gz", "sha256": "ab" * 32, "bytes": 99}]


def test_descendants_are_everything_an_artifact_went_into(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (crawl, mine, sft) = chain
    assert ledger.descendants(crawl.key) == {mine.key, sft.key}
    assert ledger.descendants(sft.key) == set()


@pytest.mark.parametrize(("looked_up", "scanned"), [(300, 3000), (1, 3000), (300, 0)])
def test_ways_are_followed_alike_however_edges_are_found(
    chain: tuple[Ledger, list[Artifact]], monkeypatch: pytest.MonkeyPatch, looked_up: int, scanned: int
) -> None:
    ledger, (crawl, mine, sft) = chain
    monkeypatch.setattr("mathquarry.data.ledger.edges.LOOKED_UP", looked_up)
    monkeypatch.setattr("mathquarry.data.ledger.edges.SCANNED", scanned)
    everything = {(mine.key, "crawl", crawl.key), (sft.key, "corpus", mine.key), (sft.key, "crawl", crawl.key)}
    assert set(ledger.follow([sft.key], "up")) == set(ledger.follow([crawl.key], "down")) == everything
    assert set(ledger.follow([mine.key, crawl.key], "down")) == everything


def test_sync_restores_every_row_after_the_file_was_deleted(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, _ = chain
    before = rows(ledger)
    ledger.store.ledger_path.unlink()
    counts, damaged = ledger.sync()
    assert rows(ledger) == before
    assert counts == {"artifacts": 3, "inputs": 3, "sources": 1, "metrics": 18, "runs": 1, "run_stages": 1}
    assert damaged == []


def test_an_artifact_is_found_by_key_beginning_run_name_and_stage(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (_, mine, sft) = chain
    assert ledger.resolve(mine.key[:9])["key"] == mine.key
    assert ledger.resolve("sft")["key"] == sft.key
    with pytest.raises(MathQuarryError, match="no artifact, run stage or stage called grpo-7"):
        ledger.resolve("grpo-7")
    with pytest.raises(MathQuarryError, match="is the beginning of 3 keys"):
        ledger.resolve("")


def _record_many(root: Path, writer: int) -> None:
    store = Store(root)
    for index in range(12):
        Ledger(store).record(store.build(Identity("mine", 1, {"writer": writer, "index": index}, {}), work))


def test_many_processes_write_without_losing_a_row(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_record_many, args=(tmp_path, writer)) for writer in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0, 0, 0]
    assert Ledger(Store(tmp_path)).query("select count(*) n from artifacts") == [{"n": 36}]


def _hold(path: str, ready: Any, release: Any) -> None:
    with duckdb.connect(path):
        ready.set()
        release.wait()


def test_a_ledger_that_stays_locked_is_a_clear_error(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / "ledger.duckdb"), ready, release))
    holder.start()
    ready.wait()
    try:
        with pytest.raises(MathQuarryError, match="locked by another process"), Ledger(Store(tmp_path), patience=0.3).connect():
            pass
    finally:
        release.set()
        holder.join()


def test_asking_before_anything_was_recorded_says_what_to_do(tmp_path: Path) -> None:
    ledger = Ledger(Store(tmp_path))
    for ask in (lambda: ledger.query("select 1"), lambda: ledger.inputs(["k"]), lambda: ledger.descendants("k")):
        with pytest.raises(MathQuarryError, match="ledger sync"):
            ask()


def test_catching_up_writes_only_what_is_missing(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (_, mine, _) = chain
    before = rows(ledger)
    assert ledger.catch_up() == 0
    with ledger.connect() as connection:
        for table in ("artifacts", "inputs", "metrics"):
            connection.execute(f"delete from {table} where key = ?", [mine.key])
    assert ledger.catch_up() == 1
    assert rows(ledger) == before


def test_catching_up_from_nothing_rebuilds_the_ledger(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, _ = chain
    before = rows(ledger)
    ledger.store.ledger_path.unlink()
    ledger.catch_up()
    assert rows(ledger) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", '{"key": ', "is not JSON"),
        ("manifest.json", "\x00\ufffd\x01", "is not JSON"),
        ("manifest.json", "[]", "is damaged"),
        ("manifest.json", "{MANIFEST without stage}", "lacks 'stage'"),
        ("manifest.json", "{MANIFEST made yesterday}", "is damaged: Invalid isoformat string: 'yesterday'"),
        ("manifest.json", "{MANIFEST of another key}", "belongs to mine/abc"),
        ("metrics.jsonl", '{"step": 1, "time": 5.0}\n', "lacks 'values'"),
        ("metrics.jsonl", '{"step": 1, "time": 5.0, "values": []}\n', "is damaged"),
        ("metrics.jsonl", "5\n", "is damaged"),
        ("metrics.jsonl", "loss 3.0\n", "is damaged"),
    ],
)
def test_a_damaged_file_is_reported_and_all_rows_but_its_metrics_stay(
    chain: tuple[Ledger, list[Artifact]], name: str, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, (_, mine, _) = chain
    before = rows(ledger)
    edits = {
        "{MANIFEST without stage}": {key: value for key, value in mine.manifest.items() if key != "stage"},
        "{MANIFEST made yesterday}": mine.manifest | {"created": "yesterday"},
        "{MANIFEST of another key}": mine.manifest | {"key": "abc"},
    }
    (mine.path / name).write_text(json.dumps(edits[content]) if content in edits else content)
    (damaged,) = ledger.sync().damaged
    assert (damaged.stage, damaged.key) == ("mine", mine.key)
    assert message in damaged.problem
    assert str(mine.path / name) in damaged.problem
    before["metrics"] = [row for row in before["metrics"] if row["key"] != mine.key]
    assert rows(ledger) == before
    assert main(["ledger", "sync", "--store", str(ledger.store.root)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("rebuilt: 3 artifacts")
    assert f"skipped, damaged: mine/{mine.key}: {mine.path / name}" in err


def test_what_the_ledger_never_knew_and_is_damaged_is_left_out(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (crawl, mine, sft) = chain
    ledger.store.ledger_path.unlink()
    (mine.path / "manifest.json").write_bytes(b"\0" * 100)
    rows_made, damaged = ledger.sync()
    assert rows_made == {"artifacts": 2, "inputs": 2, "sources": 1, "metrics": 12, "runs": 1, "run_stages": 1}
    assert [one.key for one in damaged] == [mine.key]
    with pytest.raises(MathQuarryError, match=f"no row for {mine.key}"):
        ledger.lineage(sft.key)
    assert ledger.known_inputs([crawl.key, mine.key, sft.key]) == {crawl.key: set(), sft.key: {mine.key, crawl.key}}


def test_catching_up_passes_over_what_is_damaged_with_a_warning(
    chain: tuple[Ledger, list[Artifact]], caplog: pytest.LogCaptureFixture
) -> None:
    ledger, (_, mine, _) = chain
    broken, sound = (ledger.store.build(Identity("sft", 1, {"seed": seed}, {"corpus": mine.key}), work) for seed in (1, 2))
    (broken.path / "manifest.json").write_text("[" * 100_000)
    assert ledger.catch_up() == 1
    assert f"the ledger lacks sft/{broken.key}: {broken.path / 'manifest.json'} is not JSON" in caplog.text
    assert ledger.resolve(sound.key)["key"] == sound.key


def test_rows_that_another_version_wrote_are_not_put_back(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (_, mine, _) = chain
    with ledger.connect() as connection:
        connection.execute("alter table artifacts add column colour varchar")
    (mine.path / "manifest.json").write_text("{}")
    assert ledger.sync().rows["artifacts"] == 2


@pytest.mark.parametrize("content", [b'{"id": "r1"}', b"[]", b"", b"\x93\xff", b"[" * 100_000, b'{"id": "r1", "stages": {}}'])
def test_a_damaged_run_file_is_reported_and_its_rows_stay(chain: tuple[Ledger, list[Artifact]], content: bytes) -> None:
    ledger, _ = chain
    before = rows(ledger)
    path = ledger.store.run_path("r1")
    path.write_bytes(content)
    (damaged,) = ledger.sync().damaged
    assert (damaged.stage, damaged.key) == ("run", "r1")
    assert str(path) in damaged.problem
    assert rows(ledger) == before
    assert ledger.newest_run() is None


def test_batches_do_not_change_what_is_written(chain: tuple[Ledger, list[Artifact]], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, _ = chain
    before = rows(ledger)
    monkeypatch.setattr("mathquarry.data.ledger.rows.BATCH", 2)
    ledger.sync()
    assert rows(ledger) == before


def test_recording_again_replaces_the_rows(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (_, mine, _) = chain
    before = rows(ledger)
    ledger.record(mine)
    assert rows(ledger) == before


def test_catching_up_does_not_read_what_is_known(chain: tuple[Ledger, list[Artifact]], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, (_, mine, _) = chain
    with monkeypatch.context() as patch:
        patch.setattr("mathquarry.data.ledger.ledger.read_manifest", lambda folder: pytest.fail(f"{folder} is read"))
        assert ledger.catch_up() == 0
    (mine.path / "manifest.json").write_text("damaged, and known already")
    assert ledger.catch_up() == 0


def test_rows_of_an_artifact_that_was_made_again_are_refreshed_and_those_of_a_deleted_one_go(
    chain: tuple[Ledger, list[Artifact]],
) -> None:
    ledger, (crawl, mine, sft) = chain
    again = Identity("mine", 1, {"rounds": 4}, {"crawl": crawl.key})
    assert ledger.store.build(again, lambda workspace: {"pages": 8}, mode="rebuild").key == mine.key
    assert ledger.catch_up() == 1
    assert ledger.query("select summary->>'pages' as pages from artifacts where key = ?", [mine.key]) == [{"pages": "8"}]
    ledger.store.remove("sft", sft.key)
    assert ledger.catch_up() == 1
    assert {row["key"] for table in ("artifacts", "inputs", "metrics") for row in rows(ledger)[table]} == {crawl.key, mine.key}
    assert ledger.catch_up() == 0


def test_a_run_that_was_retried_is_told_of_again(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, _ = chain
    run = ledger.store.run("r1")
    ledger.store.write_run(run | {"status": "completed", "ended": "2024-02-05T02:00:00+01:00"})
    assert ledger.catch_up() == 1
    assert ledger.query("select status, ended from runs") == [{"status": "completed", "ended": datetime(2024, 2, 5, 1)}]
    assert ledger.query("select count(*) as stages from run_stages") == [{"stages": 1}]


def test_a_run_that_failed_and_was_completed_in_the_same_second_is_told_of_again(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, _ = chain
    run = ledger.store.run("r1") | {"ended": datetime.now(UTC).isoformat()}
    for status in ("failed", "completed"):
        ledger.store.write_run(run | {"status": status})
        assert ledger.catch_up() == 1
        assert ledger.query("select status from runs") == [{"status": status}]


def test_a_completed_run_that_was_retried_is_told_of_again(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (crawl, *_) = chain
    run = ledger.store.run("r1") | {"status": "completed", "ended": "2024-02-05T02:00:00Z"}
    ledger.store.write_run(run)
    ledger.catch_up()
    assert ledger.catch_up() == 0
    again = [*run["stages"], {"name": "crawl-again", "stage": "crawl", "key": crawl.key, "reused": True}]
    for retried in (run | {"ended": "2024-02-05T03:00:00Z"}, run | {"stages": again}):
        ledger.store.write_run(retried)
        assert ledger.catch_up() == 1
        assert ledger.query("select ended from runs") == [{"ended": datetime.fromisoformat(retried["ended"][:-1])}]
        assert ledger.query("select count(*) as stages from run_stages") == [{"stages": len(retried["stages"])}]


@pytest.mark.parametrize("damage", [{"ended": "soon"}, {"ended": 3}, {"stages": ["sft"]}, {"stages": None}, {"id": "other"}])
def test_catching_up_names_a_run_that_is_damaged(
    chain: tuple[Ledger, list[Artifact]], damage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ledger, _ = chain
    path = ledger.store.run_path("r1")
    path.write_text(json.dumps(ledger.store.run("r1") | damage))
    before = rows(ledger)
    assert ledger.catch_up() == 0
    assert str(path) in caplog.text
    assert rows(ledger) == before


def test_the_newest_run_may_be_one_that_the_ledger_does_not_know_yet(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, _ = chain
    run = ledger.store.run("r1")
    assert ledger.newest_run() == "r1"
    ledger.store.write_run(run | {"id": "r0", "started": "2024-02-06T00:00:00Z"})
    assert ledger.newest_run() == "r0"
    ledger.store.write_run(run | {"id": "r2", "started": "2024-02-04T00:00:00Z", "status": "completed"})
    ledger.sync()
    ledger.store.ledger_path.unlink()
    assert ledger.newest_run() == "r0"


def test_an_input_that_the_ledger_does_not_know_is_an_error_and_no_gap(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (crawl, _, sft) = chain
    with ledger.connect() as connection:
        connection.execute("delete from artifacts where key = ?", [crawl.key])
    with pytest.raises(MathQuarryError, match=f"no row for {crawl.key}.*ledger sync"):
        ledger.lineage(sft.key)


def test_a_ledger_made_before_there_were_indexes_gets_them(chain: tuple[Ledger, list[Artifact]]) -> None:
    ledger, (crawl, mine, sft) = chain
    with ledger.connect() as connection:
        connection.execute("drop index inputs_by_key; drop index inputs_by_input")
    assert ledger.descendants(crawl.key) == {mine.key, sft.key}
    ledger.record(mine)
    assert {row["index_name"] for row in ledger.query("select index_name from duckdb_indexes()")} == {"inputs_by_key", "inputs_by_input"}


def test_a_clock_that_was_wrong_once_does_not_make_a_run_the_newest_for_ever(
    chain: tuple[Ledger, list[Artifact]], capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, (crawl, mine, sft) = chain
    for name, year, key, status in (("wrong", "2099", crawl.key, "completed"), ("later", "2024", mine.key, "completed")):
        when = f"{year}-06-01T00:00:00Z"
        run = {"id": name, "recipe": "tiny", "started": when, "ended": when, "status": status, "config": {}}
        run["stages"] = [{"name": "grpo-1", "stage": "grpo", "key": key, "reused": False}]
        ledger.store.write_run(run)
        if name == "wrong":
            assert ledger.newest_run() == "r1", "read from its file"
        ledger.catch_up()
    assert ledger.newest_run() == "later"
    assert ledger.resolve("grpo-1")["key"] == mine.key
    main(["ledger", "ls", "--runs", "--store", str(ledger.store.root)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "tiny" in line]
    assert [line.split()[0] for line in lines] == ["wrong", "r1", "later"]
    manifest = sft.path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"created": "2099-01-01T00:00:00.000000Z"}))
    newer = ledger.store.build(Identity("sft", 1, {"seed": 1}, {}), work)
    ledger.record(newer)
    ledger.store.run_path("r1").unlink()  # its name for an artifact goes before the artifact's own stage
    ledger.sync()
    assert ledger.resolve("sft")["key"] == newer.key


def test_the_listing_shows_the_newest_and_says_how_many_there_are(
    chain: tuple[Ledger, list[Artifact]], capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, (crawl, mine, sft) = chain

    def listed(*arguments: str) -> list[str]:
        assert main(["ledger", "ls", "--store", str(ledger.store.root), *arguments]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.split()[0] == ("run" if "--runs" in arguments else "key")
        return [line.split()[0] for line in lines]

    assert listed() == listed("--limit", "0") == [crawl.key, mine.key, sft.key]
    assert listed("--limit", "2") == [mine.key, sft.key, "(the"]
    assert listed("--stage", "mine", "--limit", "1") == [mine.key]
    assert listed("--runs") == ["r1"]


def test_a_second_writer_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    artifact = store.build(Identity("mine", 1, {}, {}), work)
    ledger = Ledger(store)
    waits = threading.Event()
    monkeypatch.setattr("mathquarry.data.ledger.file.time.sleep", lambda seconds: waits.set())
    with ledger.connect():
        second = threading.Thread(target=ledger.record, args=(artifact,))
        second.start()
        assert waits.wait(60)
        assert second.is_alive()
    second.join()
    assert ledger.query("select key from artifacts") == [{"key": artifact.key}]


@pytest.mark.parametrize(
    ("content", "advice"),
    [(b"no database", "delete it"), (b"", "delete it"), (b"\0" * 20_000, "delete it"), (None, "move it away")],
)
def test_a_ledger_that_is_none_is_reported_with_what_helps(tmp_path: Path, content: bytes | None, advice: str) -> None:
    ledger = Ledger(Store(tmp_path))
    if content is None:
        ledger.store.ledger_path.mkdir()
    else:
        ledger.store.ledger_path.write_bytes(content)
    with pytest.raises(MathQuarryError, match=advice):
        ledger.query("select * from artifacts")
