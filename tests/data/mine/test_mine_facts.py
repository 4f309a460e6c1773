"""Numbers in a round's record, against values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from mathquarry.data.crawl.urls import parse_address, url_key
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.record.facts import average_precision, ratio_estimate, read_labels
from mathquarry.data.mine.record.histogram import BINS, histogram


def test_average_precision_is_the_mean_precision_at_the_positives() -> None:
    scores, truth = np.asarray([0.9, 0.8, 0.7, 0.6, 0.5], dtype=np.float32), np.asarray([True, False, True, False, True])
    average, curve = average_precision(scores, truth)
    assert average == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert [(round(threshold, 3), *rest) for threshold, *rest in curve][:3] == [
        (0.9, 1.0, pytest.approx(1 / 3)),
        (0.8, 0.5, pytest.approx(1 / 3)),
        (0.7, pytest.approx(2 / 3), pytest.approx(2 / 3)),
    ]


def test_equal_scores_are_one_threshold_whatever_their_order() -> None:
    scores = np.full(4, 0.5, dtype=np.float32)
    for truth in ([True, False, False, False], [False, False, False, True]):
        average, curve = average_precision(scores, np.asarray(truth))
        assert average == 0.25
        assert curve == [(0.5, 0.25, 1.0)]


def test_a_long_curve_is_thinned_to_fifty_points_with_both_ends() -> None:
    scores = np.linspace(1, 0, 1000, dtype=np.float32)
    _, curve = average_precision(scores, np.arange(1000) % 2 == 0)
    assert len(curve) == 50
    assert curve[0] == (1.0, 1.0, pytest.approx(1 / 500))
    assert curve[-1][2] == 1.0


def test_tokens_of_a_sample_are_scaled_by_bytes_with_the_error_of_the_ratio() -> None:
    # Tokens exactly a third of the bytes: no error. And hand-worked: ratio 0.3, residuals 1 and -1, half of the population sampled.
    assert ratio_estimate([10, 20], [30, 60], total=900, population=30) == (300, 0)
    assert ratio_estimate([4, 2], [10, 10], total=400, population=4) == (120, round(400 * np.sqrt(2 * 0.5 / 2) / 10))
    assert ratio_estimate([4], [10], total=400, population=4) == (160, 0)


def test_the_error_of_the_token_count_is_the_spread_over_samples() -> None:
    draw = np.random.default_rng(0)
    sizes = draw.integers(500, 20_000, 20_000)
    tokens = (sizes / draw.normal(3.6, 0.5, 20_000).clip(2)).astype(int)
    estimates, errors = [], []
    for _ in range(200):
        sample = draw.choice(20_000, 200, replace=False)
        estimate, error = ratio_estimate(tokens[sample], sizes[sample], int(sizes.sum()), 20_000)
        estimates.append(estimate)
        errors.append(error)
    assert np.mean(estimates) == pytest.approx(tokens.sum(), rel=0.005)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.2)


def test_every_score_falls_into_a_bin_of_the_histogram() -> None:
    counts = histogram(np.asarray([0.0, 1e-6, 0.5, 0.6, 0.9999999, 1.0], dtype=np.float32))
    assert len(counts) == BINS
    assert {number: pages for number, pages in enumerate(counts) if pages} == {0: 2, 115: 1, 119: 1, BINS - 1: 2}


def test_labels_are_read_by_canonical_address(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"url": "http://x.org/a/", "label": "math_plain"}\n{"url": "https://x.org/b#top", "label": false}\n')
    addresses = [parse_address(url) for url in ("https://x.org/a", "http://x.org/b")]
    assert read_labels(file) == {
        url_key(address.canonical): truth for address, truth in zip(addresses, (True, False), strict=True) if address
    }


@pytest.mark.parametrize("line", ['{"url": "x", "label": true}', '{"url": "http://x.org", "label": "perhaps"}', '{"label": true}'])
def test_a_bad_label_is_named_with_file_and_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"url": "http://x.org/a", "label": true}\n' + line + "\n")
    with pytest.raises(MathQuarryError, match=r"labels\.jsonl.*2"):
        read_labels(file)
