"""The arguments of `mathquarry report`, and the pages that they give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Artifact, Identity, Store
from mathquarry.data.store.workspace import Workspace
from mathquarry.flows.__main__ import main
from mathquarry.flows.cli.pages import write_report

IDS = {"first": "20310504-101112-aaaaaa", "second": "20310505-101112-bbbbbb"}


def make(store: Store, stage: str, config: dict[str, Any], summary: dict[str, Any], **inputs: Artifact) -> Artifact:
    def work(workspace: Workspace) -> dict[str, Any]:
        (workspace.out / "file").write_text(stage)
        return summary

    return store.build(Identity(stage, 1, {stage: config}, {role: other.key for role, other in inputs.items()}), work)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two runs that share their problems."""
    store = Store(tmp_path / "store")
    for (run, id), steps in zip(IDS.items(), (1, 2), strict=True):
        problems = make(store, "problems", {}, {"train": 10})
        policy = make(store, "sft", {"steps": steps}, {"tokens": 100 * steps}, problems=problems)
        scores = make(store, "evaluate", {}, {"questions": 9, "greedy": 0.5, "greedy_se": 0.1}, policy=policy, problems=problems)
        stages = [
            {"name": name, "stage": made.stage, "key": made.key, "reused": False}
            for name, made in (("problems", problems), ("sft", policy), ("evaluate-sft", scores))
        ]
        when = f"2021-05-0{3 + steps}T10:11:12Z"
        record = {"id": id, "recipe": f"the {run}", "started": when, "ended": when, "status": "completed"}
        store.write_run(record | {"config": {"sft": {"steps": steps}}, "stages": stages})
    Ledger(store).sync()
    return store


@pytest.fixture
def page(store: Store, tmp_path: Path) -> Any:
    def write(*names: str) -> str:
        write_report(store.url, names, tmp_path / "report.html")
        return (tmp_path / "report.html").read_text()

    return write


def heading(text: str) -> str:
    found = re.search("<h1>(.*)</h1>", text)
    assert found
    return found[1]


def test_no_name_is_the_newest_run_and_the_beginning_of_an_id_is_enough(page: Any) -> None:
    assert heading(page()) == "the second"
    assert heading(page("20310504")) == "the first"


def test_several_runs_are_put_side_by_side(page: Any) -> None:
    text = page(IDS["first"], IDS["second"])
    assert heading(text) == "the first, the second: 2 runs side by side"
    assert re.search(r"<td[^>]*>sft\.steps</td><td[^>]*>1</td><td[^>]*>2</td>", text)


def test_an_artifact_has_a_page_with_what_made_it_and_its_scores(page: Any, store: Store) -> None:
    key = store.runs()[0]["stages"][1]["key"]
    text = page(key[:10])
    assert heading(text) == "sft"
    assert f'sft <span class="mono">{key}</span>' in text
    assert re.findall(r'<section id="(\w+)">', text) == ["artifact", "accuracy", "lineage", "cost", "environment", "config"]
    assert re.search(r"<td[^>]*>Used by</td><td[^>]*>evaluate-sft</td>", text)
    assert re.search(r"<td[^>]*>Made from</td><td[^>]*>problems: problems</td>", text)
    assert store.runs()[1]["stages"][1]["key"] not in text


def test_a_name_in_the_newest_run_is_an_artifact_too(page: Any, store: Store) -> None:
    assert store.runs()[1]["stages"][1]["key"] in page("sft")


def test_an_artifact_that_no_run_knows_goes_by_its_stage(page: Any, store: Store) -> None:
    alone = make(store, "mine", {}, {"pages": 1})
    Ledger(store).sync()
    text = page(alone.key)
    assert heading(text) == "mine"
    assert "nothing yet" in text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nope"], "has no run nope .`mathquarry ledger ls --runs` lists them., and the ledger knows no artifact"),
        (["2031050"], "2031050 is the beginning of 2 runs"),
        ([IDS["first"], "sft"], "sft is an artifact, but only runs can be shown side by side"),
        ([IDS["first"], "nope"], "has no run nope"),
        ([IDS["first"], "20310504"], f"run {IDS['first']} is given twice"),
    ],
)
def test_names_that_cannot_be_are_explained(names: list[str], message: str, page: Any, tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=message):
        page(*names)
    assert not (tmp_path / "report.html").exists()


def test_a_store_without_runs_says_so_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="has no recorded run"):
        write_report(str(tmp_path / "none"), [], tmp_path / "report.html")
    assert not (tmp_path / "none").exists()


def test_the_command_line_takes_any_number_of_names(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.html"
    assert main(["report", *IDS.values(), "--store", store.url, "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert main(["report", "nope", "--store", store.url, "-o", str(output)]) == 1
