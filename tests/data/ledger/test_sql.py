import contextlib
import json
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.ledger.lineage import draw, graph
from mathquarry.data.ledger.picture import layers
from mathquarry.data.ledger.sql import affected, ask
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.store.store import Identity, Store
from mathquarry.data.store.workspace import Workspace


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """problems -> mine (two corpora) -> pretrain of the first, with real files. The store's name needs quoting in SQL."""
    store = Store(tmp_path / "it's a store")
    ledger = Ledger(store)

    def problems(workspace: Workspace) -> dict:
        write_problems(workspace.out / "train.jsonl", [Problem("p1", "1+1?", "2"), Problem("p2", "When?", "2024-01-01")])
        write_problems(workspace.out / "test.jsonl", [Problem("p3", "2+2?", "4")])
        (workspace.out / "dropped.jsonl").write_text('{"id": "p0", "reason": "no-answer"}\n')
        return {}

    def corpus(hosts: list[str]):  # type: ignore[no-untyped-def]
        def work(workspace: Workspace) -> dict:
            (workspace.out / "corpus").mkdir()
            for part, host in enumerate(hosts):
                table = pa.table({"url": [f"https://{host}/{part}"], "host": [host], "score": [0.5]})
                pq.write_table(table, workspace.out / "corpus" / f"part-{part:04d}.parquet")
            workspace.metrics.log(1, pages=len(hosts))
            return {"pages": len(hosts)}

        return work

    made = store.build(Identity("problems", 1, {}, {}), problems)
    first = store.build(Identity("mine", 1, {}, {"problems": made.key}), corpus(["a.example.org", "other.net"]))
    second = store.build(Identity("mine", 2, {}, {"problems": made.key}), corpus(["badexample.org", "other.net"]))
    base = store.build(Identity("pretrain", 1, {}, {"corpus": first.key}), lambda workspace: {"loss": 1.5})
    for artifact in (made, first, second, base):
        ledger.record(artifact)
    return ledger


def key_of(ledger: Ledger, stage: str, version: int = 1) -> str:
    return ask(ledger, f"select key from artifacts where stage = '{stage}' and version = {version}").rows[0][0]


def test_rows_of_artifacts_are_asked_in_place_beside_the_ledgers_tables(ledger: Ledger) -> None:
    answer = ask(ledger, "select stage, version, count(*) as pages from pages join artifacts on key = artifact group by all order by all")
    assert answer.columns == ["stage", "version", "pages"]
    assert answer.rows == [("mine", 1, 2), ("mine", 2, 2)]


def test_problems_keep_their_part_and_their_answers_as_they_are_written(ledger: Ledger) -> None:
    answer = ask(ledger, "select part, id, answer from problems order by id")
    assert answer.rows == [("train", "p1", "2"), ("train", "p2", "2024-01-01"), ("test", "p3", "4")]


def test_only_the_views_that_a_query_names_are_looked_for_on_disk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("mathquarry.data.ledger.sql.make_views", lambda connection, names: made.append(list(names)))
    for sql in (
        "select summary->>'pages' from artifacts",
        "with pages as (from runs) select * from pages",
        "select 1 from Pages where exists (from dropped)",
        "explain select * from answers",
    ):
        with contextlib.suppress(MathQuarryError):  # the views are not there
            ask(ledger, sql)
    assert made == [[], [], ["pages", "dropped"], ["answers"]]


@pytest.mark.parametrize("sql", ["show tables", "select view_name as name from duckdb_views() where not internal"])
def test_a_query_about_what_there_is_finds_every_view(ledger: Ledger, sql: str) -> None:
    found = {row[0] for row in ask(ledger, sql).rows}
    assert {"pages", "problems", "edges"} <= found
    assert "rollouts" not in found


@pytest.mark.parametrize("sql", ["describe pages", "show pages", "summarize pages"])
def test_a_view_can_be_described(ledger: Ledger, sql: str) -> None:
    assert {"artifact", "url", "host", "score"} <= {row[0] for row in ask(ledger, sql).rows}


def test_a_damaged_file_behind_a_view_is_named_and_spoils_no_other_query(ledger: Ledger) -> None:
    part = next(ledger.store.root.glob("artifacts/mine/*/corpus/part-0000.parquet"))
    part.write_bytes(b"not Parquet")
    with pytest.raises(MathQuarryError, match=r"part-0000\.parquet"):
        ask(ledger, "select * from pages")
    assert ask(ledger, "select count(*) from problems").rows == [(3,)]


def test_edges_name_both_stages(ledger: Ledger) -> None:
    rows = ask(ledger, "select distinct input_stage, role, stage from edges order by all").rows
    assert rows == [("mine", "corpus", "pretrain"), ("problems", "problems", "mine")]


def test_a_window_sees_the_rows_of_the_artifacts_that_were_asked_for(ledger: Ledger) -> None:
    key = key_of(ledger, "mine", 1)
    rows = ask(ledger, f"select host, count(*) over (partition by score) from pages where artifact = '{key}' order by host").rows
    assert rows == [("a.example.org", 2), ("other.net", 2)]
    twice = f"with x as (select * from pages where artifact = '{key}') select count(*) from x as a join x as b using (score)"
    assert ask(ledger, twice).rows == [(4,)]


def test_json_files_are_rows_with_their_name_and_content(ledger: Ledger) -> None:
    query = "select file, content->>'stage', content->'summary'->>'pages' from json_files join artifacts on key = artifact order by all"
    stages = [("manifest.json", "mine", "2"), ("manifest.json", "mine", "2"), ("manifest.json", "pretrain", None)]
    assert ask(ledger, query).rows == [*stages, ("manifest.json", "problems", None)]


def test_a_limit_is_kept(ledger: Ledger) -> None:
    assert len(ask(ledger, "select * from pages", limit=3).rows) == 3


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("delete from artifacts", "only `select`"),
        ("create table t as select 1", "only `select`"),
        ("copy (select 1) to 'x.csv'", "only `select`"),
        ("attach 'other.duckdb'", "only `select`"),
        ("select 1; select 2", "one query at a time"),
        ("", "one query at a time"),
        ("selec 1", "does not understand this SQL"),
        ("select nothing from pages", "nothing"),
        ("select * from rollouts", "rollouts"),
    ],
)
def test_what_is_no_single_reading_query_is_refused_with_the_reason(ledger: Ledger, sql: str, message: str) -> None:
    with pytest.raises(MathQuarryError, match=message):
        ask(ledger, sql)
    assert ask(ledger, "select count(*) from artifacts").rows == [(4,)]


def test_a_site_affects_its_corpora_and_what_was_made_from_them(ledger: Ledger) -> None:
    found = affected(ledger, "site", "example.org")
    assert [(stage, rows) for stage, _, rows in found] == [("mine", 1), ("pretrain", 0)]
    assert found[0][1] == key_of(ledger, "mine", 1)
    assert [stage for stage, _, _ in affected(ledger, "site", "other.net")] == ["mine", "mine", "pretrain"]
    assert affected(ledger, "site", "nowhere.org") == []


def test_a_page_and_a_problem_affect_what_was_made_from_them(ledger: Ledger) -> None:
    assert [rows for _, _, rows in affected(ledger, "url", "https://badexample.org/0")] == [1]
    assert [stage for stage, _, _ in affected(ledger, "problem", "p2")] == ["problems", "mine", "mine", "pretrain"]


def test_the_graph_goes_up_down_or_both_ways(ledger: Ledger) -> None:
    first = key_of(ledger, "mine", 1)

    def stages(direction) -> list[str]:  # type: ignore[no-untyped-def]
        return [row["stage"] for row in graph(ledger, first, direction).artifacts]

    assert (stages("up"), stages("down")) == (["problems", "mine"], ["mine", "pretrain"])
    assert stages("both") == ["problems", "mine", "pretrain"]
    with pytest.raises(MathQuarryError, match="no row for abc"):
        graph(ledger, "abc")


def test_the_picture_has_a_box_an_artifact_and_a_line_an_edge_from_left_to_right(ledger: Ledger) -> None:
    base = key_of(ledger, "pretrain")
    found = graph(ledger, base)
    assert list(layers(found.edges, [row["key"] for row in found.artifacts]).values()) == [0, 1, 2]
    picture = ElementTree.fromstring(draw(found, base))
    names = [element.tag.rpartition("}")[2] for element in picture.iter()]
    assert (names.count("rect"), names.count("path")) == (3, 2)
    asked = [group for group in picture if group.get("class") == "asked"]
    assert [text.text for text in asked[0] if text.tag.endswith("text")] == ["pretrain", base]


def test_the_command_line_prints_tables_json_and_pictures(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mathquarry.flows.__main__ import main

    store = ["--store", str(ledger.store.root)]
    assert main(["ledger", "sql", "select host, score, null as nothing from pages order by host", "--limit", "2", *store]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["host", "score", "nothing"]
    assert lines[1].split() == ["a.example.org", "0.5"]
    assert lines[3] == "(the first 2 rows; --limit 0 prints all)"
    assert main(["ledger", "sql", "select version, host from pages join artifacts on key = artifact order by all", "--json", *store]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == {"version": 1, "host": "a.example.org"}
    assert main(["ledger", "lineage", "pretrain", "--json", *store]) == 0
    assert [row["stage"] for row in json.loads(capsys.readouterr().out)["artifacts"]] == ["problems", "mine", "pretrain"]
    picture = tmp_path / "lineage.svg"
    assert main(["ledger", "lineage", "pretrain", "-o", str(picture), *store]) == 0
    assert "pretrain" in picture.read_text()
    assert main(["ledger", "affected", "--site", "example.org", *store]) == 0
    assert "contains it in 1 rows" in capsys.readouterr().out
    assert main(["ledger", "sql", "drop table artifacts", *store]) == 1
    assert "read-only" in capsys.readouterr().err
