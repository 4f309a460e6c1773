"""The histogram of a crawl's scores is readable wherever the scores lie."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathquarry.data.mine.record.histogram import BINS, FURTHEST, histogram
from mathquarry.data.report.page.histogram_panels import Panel, histogram_panels
from mathquarry.data.report.sections.score_bins import MOST_BINS, shown, ticks

RNG = np.random.default_rng(0)
CRAWLS = {
    "crowded at 0 and 1": RNG.beta(0.05, 0.05, 5000),
    "crowded at 0": RNG.beta(0.02, 3, 5000),
    "within 0.5 and 0.9": np.concatenate([RNG.uniform(0.5, 0.9, 1300), [1e-5, 1e-5]]),
    "within 0.45 and 0.55": RNG.uniform(0.45, 0.55, 5000),
}


def odds(share: float) -> float:
    return math.log(share / (1 - share))


@pytest.mark.parametrize("scores", CRAWLS.values(), ids=CRAWLS)
def test_the_pages_fill_the_chart_and_shares_stand_below_it(scores: np.ndarray) -> None:
    part = shown([histogram(scores.astype(np.float32))], [odds(0.5)])
    (bins,) = part.counts
    assert sum(bins) == len(scores)
    assert len(bins) <= MOST_BINS + 1
    filled = [number for number, pages in enumerate(bins) if pages]
    assert filled[-1] - filled[0] >= 0.6 * len(bins) - 2
    marked = [place for place, _ in ticks(part.edges)]
    assert 3 <= len(marked) <= 13
    assert max(np.diff([part.edges[0], *marked, part.edges[-1]])) <= 0.5 * (part.edges[-1] - part.edges[0])


def test_scores_within_half_and_nine_tenths_are_told_apart() -> None:
    part = shown([histogram(CRAWLS["within 0.5 and 0.9"].astype(np.float32))], [odds(0.8)])
    assert sum(pages > 10 for pages in part.counts[0]) >= 20
    assert part.beyond == 2
    assert {"0.5", "0.6", "0.7", "0.8", "0.9"} <= {text for _, text in ticks(part.edges)}


@given(
    st.lists(st.lists(st.integers(0, 3000), min_size=BINS, max_size=BINS), min_size=1, max_size=2),
    st.lists(st.floats(-FURTHEST, FURTHEST), max_size=2),
)
def test_no_page_is_left_out_and_every_mark_is_inside(counts: list[list[int]], marks: list[float]) -> None:
    part = shown(counts, marks)
    assert [sum(one) for one in part.counts] == [sum(one) for one in counts]
    assert all(len(one) == len(part.edges) - 1 for one in part.counts)
    assert all(part.edges[0] - 1e-9 <= mark <= part.edges[-1] + 1e-9 for mark in marks)
    assert part.edges == sorted(set(part.edges))


def test_pages_on_both_sides_of_each_rounds_threshold_are_told_apart_on_one_axis() -> None:
    rounds = [Panel("round 1", [5, 9, 4, 2], 1.5, 0.7), Panel("round 2", [8, 1, 0, 11], 2.6, 0.9)]
    chart = histogram_panels([0, 1, 2, 3, 4], rounds, [(1.0, "0.7")])
    drawn = {(trace["meta"], trace["name"].partition(":")[0]): (trace["x"], trace["y"]) for trace in chart["data"]}
    # The bin from 1 to 2 has its middle at the first threshold, the bin from 2 to 3 left of the second.
    assert drawn["round 1", "not collected"] == ([0.5], [5])
    assert drawn["round 1", "collected"] == ([1.5, 2.5, 3.5], [9, 4, 2])
    assert drawn["round 2", "not collected"] == ([0.5, 1.5, 2.5], [8, 1, 0])
    assert drawn["round 2", "collected"] == ([3.5], [11])
    domains = [chart["layout"][name]["domain"] for name in ("yaxis", "yaxis2")]
    assert domains[0][0] > domains[1][1] > domains[1][0] == 0
    assert [shape["x0"] for shape in chart["layout"]["shapes"]] == [1.5, 2.6]
    assert [note["text"] for note in chart["layout"]["annotations"]] == ["round 1", "threshold 0.7", "round 2", "threshold 0.9"]


@pytest.mark.parametrize(("counts", "kind"), [([1206, 321], None), ([1_000_000, 300], "log"), ([0, 300], None)])
def test_the_axis_is_logarithmic_only_where_one_heap_would_hide_the_other(counts: list[int], kind: str | None) -> None:
    chart = histogram_panels([0, 1, 2], [Panel("round 1", counts, 1.0, 0.7)], [])
    assert chart["layout"]["yaxis"].get("type") == kind
