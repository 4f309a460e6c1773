"""A person may review the domains between rounds: mining stops for the review, then continues and follows it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mathquarry.data.crawl.annotations import Verdict
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json
from mathquarry.data.mine import rounds
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.domains.review import Decision, Decisions, ReviewNeeded, all_verdicts
from mathquarry.data.mine.loop import mine
from mathquarry.data.store.workspace import Workspace


@pytest.fixture
def reviewed(mine_config: MineConfig) -> MineConfig:
    return mine_config.model_copy(update={"review": "team", "max_rounds": 2})


def test_a_round_waits_for_its_decision_and_does_not_score_again(
    reviewed: MineConfig, crawl: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, reviews = Workspace.at(tmp_path / "run"), tmp_path / "reviews"
    with pytest.raises(ReviewNeeded) as question:
        mine(reviewed, crawl, problems, workspace, reviews)
    assert question.value.round == 1
    hosts = [row["host"] for row in question.value.table]
    assert hosts
    scored: list[Path] = []
    score = rounds.score_pages
    monkeypatch.setattr(rounds, "score_pages", lambda *arguments: scored.append(arguments[2]) or score(*arguments))
    Decisions(reviews / "team").write(1, Decision(rest="reject", path=[Verdict(host=hosts[0], verdict="accept", annotator="ab")]))
    mine(reviewed, crawl, problems, workspace, reviews)
    assert [model.parent.name for model in scored] == ["02"]
    record = read_json(workspace.out / "rounds.json")["rounds"][0]
    assert record["accepted_paths"] == [f"{hosts[0]}/"]
    assert read_json(workspace.out / "review.json")["1"]["path"][0]["annotator"] == "ab"
    accepted = {row["host"]: row["accepted"] for row in pq.read_table(workspace.out / "domains.parquet").to_pylist()}
    assert [host for host, paths in accepted.items() if paths] == [hosts[0]]


def test_taking_the_threshold_gives_what_an_unattended_run_gives(reviewed: MineConfig, crawl: Path, problems: Path, tmp_path: Path) -> None:
    Decisions(tmp_path / "reviews" / "team").write(1, Decision())
    asked, alone = Workspace.at(tmp_path / "asked"), Workspace.at(tmp_path / "alone")
    assert mine(reviewed, crawl, problems, asked, tmp_path / "reviews") == mine(
        reviewed.model_copy(update={"review": None}), crawl, problems, alone
    )
    assert read_json(asked.out / "rounds.json") == read_json(alone.out / "rounds.json")


def test_a_run_that_nobody_can_answer_says_so_before_it_begins(reviewed: MineConfig, crawl: Path, problems: Path, tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="unset it here"):
        mine(reviewed, crawl, problems, Workspace.at(tmp_path / "run"))


def test_a_decision_once_made_stays(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path)
    decisions.write(1, Decision(rest="reject"))
    decisions.write(1, Decision(rest="threshold"))
    assert decisions.read() == {1: Decision(rest="reject")}


def test_a_later_verdict_on_the_same_path_wins() -> None:
    first = Decision(path=[Verdict(host="a.org", prefix="/q/", verdict="accept"), Verdict(host="b.org", verdict="accept")])
    second = Decision(rest="reject", path=[Verdict(host="a.org", prefix="/q", verdict="reject")])
    verdicts, by_share = all_verdicts({2: second, 1: first})
    assert (verdicts.accepts("a.org", "/q/1"), verdicts.accepts("b.org", "/x"), verdicts.accepts("c.org", "/")) == (False, True, None)
    assert not by_share
