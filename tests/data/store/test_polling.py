"""Something is looked at in a thread while work goes on, and never holds the work up."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar

import pytest

from mathquarry.data.store.polling import every

WAIT = 60.0
"""Seconds after which a test gives up on an event."""
NEVER = 1e6
"""Seconds between two looks where only the last look is of interest."""

flow_run: ContextVar[str] = ContextVar("flow_run")


class Looks:
    """Notes each look, fails at those with these numbers, and sets `enough` at the third."""

    def __init__(self, *failing: int) -> None:
        self._failing = failing
        self.seen: list[bool] = []
        self.enough = threading.Event()

    def __call__(self, last: bool) -> None:
        self.seen.append(last)
        if len(self.seen) == 3:
            self.enough.set()
        if len(self.seen) in self._failing:
            raise ValueError("the disk is on fire")


def test_looks_are_repeated_until_the_end_and_only_the_last_is_told_so() -> None:
    looks = Looks()
    with every(0.001, looks, "the page"):
        assert looks.enough.wait(WAIT)
    assert len(looks.seen) >= 4
    assert looks.seen[-1]
    assert not any(looks.seen[:-1])


def test_the_last_look_is_made_even_if_the_block_raises() -> None:
    looks = Looks()
    with pytest.raises(KeyError), every(NEVER, looks, "the page"):
        raise KeyError("work")
    assert looks.seen == [True]


def test_after_a_look_that_fails_the_next_is_made_and_the_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks(1, 2)
    with caplog.at_level(logging.WARNING, "mathquarry"), every(0.001, looks, "the page of grpo"):
        assert looks.enough.wait(WAIT)
    assert looks.seen[-1]
    assert caplog.messages == ["cannot update the page of grpo: ValueError: the disk is on fire"]


def test_a_failure_that_returns_after_a_success_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks(1, 3)
    with caplog.at_level(logging.WARNING, "mathquarry"), every(0.001, looks, "the page of grpo"):
        assert looks.enough.wait(WAIT)
    assert caplog.messages == ["cannot update the page of grpo: ValueError: the disk is on fire"] * 2


def test_a_last_look_that_fails_does_not_fail_the_work(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mathquarry"), every(NEVER, Looks(1), "the page of grpo"):
        pass
    assert caplog.messages == ["cannot update the page of grpo: ValueError: the disk is on fire"]


def test_a_look_has_the_context_of_the_caller() -> None:
    found: list[str] = []
    token = flow_run.set("grpo-1")
    try:
        with every(NEVER, lambda last: found.append(flow_run.get("none")), "the page"):
            pass
    finally:
        flow_run.reset(token)
    assert found == ["grpo-1"]


def test_a_last_look_that_hangs_is_left_behind_and_ends_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    answer, ended = threading.Event(), threading.Event()

    def look(last: bool) -> None:
        assert answer.wait(WAIT)
        ended.set()

    with caplog.at_level(logging.WARNING, "mathquarry"), every(NEVER, look, "the page of grpo", last_seconds=0.01):
        pass
    assert not ended.is_set()
    assert caplog.messages == ["the last update of the page of grpo takes more than 0.01 s; the work goes on without it"]
    answer.set()
    assert ended.wait(WAIT)
