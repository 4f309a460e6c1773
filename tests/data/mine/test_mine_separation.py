"""Mining stops or warns if its classifier or its threshold does not separate pages."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json
from mathquarry.data.mine.classify.separation import Separation, demand, separation
from mathquarry.data.mine.config import ClassifierConfig, MineConfig, SeedConfig, SeparationConfig
from mathquarry.data.mine.loop import mine
from mathquarry.data.mine.record.warnings import threshold_warnings
from mathquarry.data.store.workspace import Workspace

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=12)


@given(SCORES, SCORES)
def test_the_auc_is_the_share_of_pairs_in_the_right_order_and_ties_count_half(good: list[float], others: list[float]) -> None:
    scores = np.asarray(good + others, dtype=np.float32)
    found = separation(scores, np.arange(len(scores)) < len(good), least_pages=1)
    pairs = [(above > below) + (above == below) / 2 for above in good for below in others]
    assert found.auc == pytest.approx(sum(pairs) / len(pairs))
    assert (found.positives, found.negatives) == (len(good), len(others))


def test_too_few_held_out_pages_are_not_measured_and_stop_nothing() -> None:
    found = separation(np.asarray([0.1, 0.2, 0.9], dtype=np.float32), np.asarray([True, True, False]), least_pages=2)
    assert found == Separation(None, 2, 1)
    demand(found, 1, (20, 20), MineConfig())


@pytest.mark.parametrize(
    ("examples", "cause"), [((120, 656), "120 positives and 656 negatives are few"), ((10**5, 10**5), "like the crawl")]
)
def test_a_classifier_that_does_not_separate_is_refused_with_auc_cause_and_fix(examples: tuple[int, int], cause: str) -> None:
    config = MineConfig()
    demand(Separation(config.separation.least_auc, 20, 66), 1, examples, config)
    with pytest.raises(MathQuarryError, match=r"round 2: .*AUC is 0\.690; separation\.least_auc is 0\.7") as error:
        demand(Separation(0.69, 20, 66), 2, examples, config)
    assert cause in str(error.value)
    assert "seed_pages" in str(error.value)
    demand(Separation(0.1, 20, 66), 2, examples, MineConfig(separation=SeparationConfig(least_auc=0)))


@pytest.mark.parametrize(
    ("pages", "left", "collected", "warned"),
    [(300, 200, 100, True), (10, 1, 100, True), (9, 8, 100, False), (300, 0, 300, False), (50, 20, 10_000, False), (100, 1, 10_000, True)],
)
def test_a_threshold_that_cuts_a_heap_of_equal_scores_is_warned_of(pages: int, left: int, collected: int, warned: bool) -> None:
    sentences = threshold_warnings(0.5, pages, left, collected)
    assert len(sentences) == warned
    assert not warned or f"{pages - left:,} of them were collected and {left:,} not" in sentences[0]


def test_a_seed_too_small_for_the_papers_settings_stops_mining_before_it_scores(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path / "run")
    config = mine_config.model_copy(
        update={
            "classifier": ClassifierConfig(dim=16, buckets=5000, learning_rate=1e-5, epochs=1),
            "seed_pages": SeedConfig(source="crawl-formulas", positives=30),
            "separation": SeparationConfig(held_out=0.5),
        }
    )
    with pytest.raises(MathQuarryError, match="the classifier does not separate"):
        mine(config, crawl, problems, workspace)
    assert not list(workspace.scratch.rglob("scores.npy"))
    assert not (workspace.out / "corpus").exists()


def test_a_round_records_and_logs_what_it_measured_and_what_it_could_not(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measured, not_measured = Workspace.at(tmp_path / "measured"), Workspace.at(tmp_path / "not")
    seed = SeedConfig(source="crawl-formulas", positives=30)
    config = mine_config.model_copy(update={"seed_pages": seed, "separation": SeparationConfig(held_out=0.4), "max_rounds": 1})
    with caplog.at_level(logging.WARNING, logger="mathquarry"):
        summary = mine(config, crawl, problems, measured)
    (record,) = read_json(measured.out / "rounds.json")["rounds"]
    assert record["separation"]["positives"] == 12
    assert record["separation"]["auc"] == summary["held_out_auc"] > 0.9
    assert record["negatives_limit"] == "most_of_crawl"
    assert record["seed_negatives"] < 70
    (sentence,) = record["warnings"]
    assert sentence in caplog.text
    assert summary["warnings"] == 1
    assert read_json(measured.out / "warnings.json") == [f"round 1: {sentence}"]
    summary = mine(mine_config.model_copy(update={"max_rounds": 1}), crawl, problems, not_measured)
    (record,) = read_json(not_measured.out / "rounds.json")["rounds"]
    assert record["separation"]["auc"] is None
    assert "held_out_auc" not in summary
    assert "was not measured" in record["warnings"][0]
