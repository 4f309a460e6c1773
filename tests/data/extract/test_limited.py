"""A page at the limits of time and memory loses its own text and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.extract.html import extract
from mathquarry.data.extract.limited import ExtractionStopped, Extractor

PAGE = "<html><body><main><p>Let $x$ be a number, and y another one.</p></main></body></html>"
GIB = 2**30


@pytest.fixture
def extractor() -> Iterator[Extractor]:
    with Extractor(60.0, 2 * GIB) as extractor:
        yield extractor


@pytest.mark.parametrize("html", [PAGE, "", "<p>\0</p>", "数学 " * 100_000])
def test_within_the_limits_it_is_plain_extraction(extractor: Extractor, html: str) -> None:
    assert extractor.extract(html) == extract(html)


def test_a_page_that_takes_too_long_is_stopped_and_the_next_one_is_read() -> None:
    with Extractor(1e-9, 2 * GIB) as hurried:
        for _ in range(2):
            with pytest.raises(ExtractionStopped, match="longer than 1e-09 s"):
                hurried.extract(PAGE)
        hurried._seconds = 60.0
        assert hurried.extract(PAGE).formulas == 1


def test_a_page_that_takes_too_much_memory_is_stopped_and_the_next_one_is_read() -> None:
    with Extractor(120.0, GIB // 2) as extractor:
        with pytest.raises(ExtractionStopped, match="0.5 GiB of memory|MemoryError|Failed to parse"):
            extractor.extract("<p>x" * 3_000_000)
        assert extractor.extract(PAGE).formulas == 1


def test_a_killed_process_costs_at_most_the_page_in_hand(extractor: Extractor) -> None:
    assert extractor.extract(PAGE).formulas == 1
    assert extractor._process is not None
    os.kill(extractor._process.pid, signal.SIGKILL)
    extractor._process.wait()
    assert extractor.extract(PAGE).formulas == 1


def test_a_process_that_cannot_start_is_an_error_and_no_page_is_blamed(monkeypatch: pytest.MonkeyPatch, extractor: Extractor) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(MathQuarryError, match="did not start"):
        extractor.extract(PAGE)
