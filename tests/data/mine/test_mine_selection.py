import numpy as np
import pytest

from mathquarry.data.mine.record.corpus import first_rounds
from mathquarry.data.mine.selection import select

SCORES = np.asarray([0.9, 0.2, 0.8, 0.8, 1.0, 0.5], dtype=np.float32)
TOKENS = np.asarray([10, 10, 20, 5, 7, 8], dtype=np.int32)
EVERYTHING = np.ones(6, dtype=bool)
KEYS = np.asarray([1, 2, 4, 3, 5, 6], dtype=np.uint64)


@pytest.mark.parametrize(
    ("budget", "chosen", "tokens", "threshold"),
    [
        (17, [0, 4], 17, 0.9),
        (22, [0, 3, 4], 22, 0.8),
        (41, [0, 3, 4], 22, 0.8),  # page 2 does not fit, and page 5 scores lower than it
        (42, [0, 2, 3, 4], 42, 0.8),
        (10**9, [0, 1, 2, 3, 4, 5], 60, 0.2),
        (1, [4], 7, 1.0),
    ],
)
def test_best_scores_are_kept_until_the_budget_is_spent(budget: int, chosen: list[int], tokens: int, threshold: float) -> None:
    selection = select(SCORES, TOKENS, EVERYTHING, KEYS, budget)
    assert np.flatnonzero(selection.mask).tolist() == chosen
    assert selection.tokens == tokens
    assert selection.threshold == pytest.approx(threshold)


def test_only_pages_of_the_pool_are_selected() -> None:
    pool = EVERYTHING.copy()
    pool[4] = False
    assert np.flatnonzero(select(SCORES, TOKENS, pool, KEYS, 10).mask).tolist() == [0]


def test_selection_does_not_depend_on_the_order_of_the_crawl() -> None:
    order = np.asarray([5, 3, 1, 0, 2, 4])
    mixed = select(SCORES[order], TOKENS[order], EVERYTHING, KEYS[order], 22)
    assert sorted(order[mixed.mask].tolist()) == [0, 3, 4]


def test_a_pages_round_is_the_first_that_collected_it() -> None:
    rounds = [np.asarray(captures) for captures in ([10], [20, 30], [10, 20])]
    assert first_rounds(np.asarray([10, 20, 30, 40]), rounds).tolist() == [1, 2, 2, 0]
