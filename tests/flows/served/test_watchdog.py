"""When the watchdog considers a run lost."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import StateType

from mathquarry.flows.served.watchdog import GAP_SECONDS, LOOK_SECONDS, Sign, Silence

RUN, OTHER = UUID(int=1), UUID(int=2)
LIMITS = {StateType.RUNNING: 90.0, StateType.CANCELLING: 90.0, StateType.PENDING: 300.0}
WATCHED = list(LIMITS)

Looks = Sequence[tuple[float, dict[UUID, Sign] | None]]
"""Time of each check, and what it saw: None if the server was away."""


def sign(kind: StateType = StateType.RUNNING, state: int = 1, events: int = 0) -> Sign:
    return Sign(kind, UUID(int=state), UUID(int=events) if events else None, events)


def every_look(seconds: float, seen: dict[UUID, Sign] | None, start: float = 0.0) -> list[tuple[float, dict[UUID, Sign] | None]]:
    """Checks at the usual interval, from `start` for this long."""
    return [(start + LOOK_SECONDS * number, seen) for number in range(int(seconds / LOOK_SECONDS) + 1)]


def verdicts(looks: Looks) -> list[tuple[float, UUID]]:
    silence = Silence(LIMITS)
    return [(now, run) for now, seen in looks for run in silence.look(now, seen)]


@pytest.mark.parametrize(("kind", "limit"), LIMITS.items())
def test_a_run_without_new_events_is_lost_right_after_its_limit(kind: StateType, limit: float) -> None:
    found = verdicts(every_look(limit + 10, {RUN: sign(kind)}))
    assert found[0] == (limit + LOOK_SECONDS, RUN)


@pytest.mark.parametrize("kind", sorted(set(StateType) - set(WATCHED)))
def test_a_run_that_has_no_process_is_never_lost(kind: StateType) -> None:
    """Scheduled for later, suspended, paused, or ended."""
    assert verdicts(every_look(86_400, {RUN: sign(kind)})) == []


def test_a_heartbeat_every_third_of_the_limit_keeps_a_run_whatever_its_clock_says() -> None:
    """The newest event stays the same after the sender's clock went back, but the number of events grows."""
    beats = [(now, {RUN: Sign(StateType.RUNNING, UUID(int=1), UUID(int=9), int(now // 30))}) for now, _ in every_look(3600, None)]
    assert verdicts(beats) == []


@pytest.mark.parametrize("away", [LOOK_SECONDS, 20, 60, 120, 3600])
def test_a_server_that_was_away_sets_all_clocks_back(away: float) -> None:
    silent = {RUN: sign(), OTHER: sign(StateType.PENDING)}
    before = every_look(85, silent)
    missed = every_look(away, None, start=90)
    after = every_look(90, silent, start=90 + away + LOOK_SECONDS)
    assert verdicts([*before, *missed, *after]) == []
    assert verdicts([*before, *missed, *after, (after[-1][0] + LOOK_SECONDS, silent)]) == [(after[-1][0] + LOOK_SECONDS, RUN)]


def test_so_does_a_look_that_came_late() -> None:
    """The service itself was stopped, or a request was repeated until the server was back."""
    silent = {RUN: sign()}
    late = 85 + GAP_SECONDS + 1
    assert verdicts([*every_look(85, silent), *every_look(90, silent, start=late)]) == []


def test_a_run_that_changes_its_state_begins_anew() -> None:
    states = [sign(StateType.RUNNING, 1), sign(StateType.PAUSED, 2), sign(StateType.PENDING, 3), sign(StateType.RUNNING, 4)]
    looks = [(90.0 * part + now, {RUN: state}) for part, state in enumerate(states) for now, _ in every_look(85, None)]
    assert verdicts(looks) == []


def test_a_run_that_is_found_alive_gets_its_whole_time_again() -> None:
    silence = Silence(LIMITS)
    lost = [now for now, seen in every_look(95, {RUN: sign()}) if silence.look(now, seen)]
    assert lost == [95]
    silence.heard(RUN)
    assert next(now for now, seen in every_look(200, {RUN: sign()}, start=100) if silence.look(now, seen)) == 195


SIGNS = st.builds(sign, st.sampled_from([*WATCHED, StateType.PAUSED]), st.integers(1, 2), st.integers(0, 2))
SEEN = st.none() | st.dictionaries(st.sampled_from([RUN, OTHER]), SIGNS)
STEPS = st.lists(st.tuples(st.sampled_from([1.0, LOOK_SECONDS, GAP_SECONDS, GAP_SECONDS + 1]), SEEN, st.integers(1, 20)), max_size=12)


@given(STEPS)
def test_a_run_is_lost_only_after_an_unbroken_row_of_looks_that_saw_the_same_of_it(
    steps: list[tuple[float, dict[UUID, Sign] | None, int]],
) -> None:
    looks: list[tuple[float, dict[UUID, Sign] | None]] = []
    now = 0.0
    for distance, seen, times in steps:
        for _ in range(times):
            now += distance
            looks.append((now, seen))
    expected = []
    for last, (now, seen) in enumerate(looks):
        for run, seen_last in (seen or {}).items():
            first = last
            while first > 0 and looks[first][0] - looks[first - 1][0] <= GAP_SECONDS and (looks[first - 1][1] or {}).get(run) == seen_last:
                first -= 1
            if now - looks[first][0] > LIMITS.get(seen_last.kind, float("inf")):
                expected.append((now, run))
    assert sorted(verdicts(looks)) == sorted(expected)
