"""What a person sees while a stage runs: live lines in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from mathquarry.data.store import workspace
from mathquarry.data.store.display import LINE_SECONDS, Lines, Reading
from mathquarry.data.store.workspace import Progress

GRPO = {"reward": 0.4125, "accuracy": 0.375, "kl": 0.00312, "tokens_per_second": 1234.5}


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_says_step_metrics_speed_and_time_left() -> None:
    reading = Reading("grpo 1", "step", 37, 200, 0, 370.0, GRPO)
    assert reading.line == "grpo 1: step 37 of 200, reward 0.412, accuracy 0.375, KL 0.00312, tokens/s 1,234, 27 min left"


@pytest.mark.parametrize(
    ("done", "first", "seconds", "left"),
    [(3, 0, 0.6, "39 s left"), (100, 90, 3600.0, "10 h 0 min left"), (199, 190, 900.0, "1:40 min left")],
)
def test_time_left_goes_by_what_was_done_in_this_process(done: int, first: int, seconds: float, left: str) -> None:
    assert Reading("sft", "step", done, 200, first, seconds).line.endswith(left)


@pytest.mark.parametrize(("done", "first"), [(0, 0), (90, 90), (200, 0), (210, 0)])
def test_no_time_is_left_where_none_can_be_told(done: int, first: int) -> None:
    assert "left" not in Reading("sft", "step", done, 200, first, 5.0).line


def test_a_diverged_metric_is_shown_as_it_is() -> None:
    assert "loss nan, KL inf" in Reading("sft", "step", 1, 2, 0, 1.0, {"loss": float("nan"), "kl": float("inf")}).line


def test_plain_lines_keep_their_distance_whatever_they_are_about() -> None:
    clock, lines = Clock(), []
    show = Lines(lines.append, clock)
    for second in range(95):
        clock.now = float(second)
        show(Reading("grpo 1" if second % 2 else "grade", "step", second, 95, 0, float(second)))
    assert [line.split(",")[0] for line in lines] == ["grade: step 30 of 95", "grade: step 60 of 95", "grade: step 90 of 95"]


def test_work_of_less_than_half_a_minute_leaves_no_plain_line_and_a_long_step_leaves_one_each() -> None:
    clock, lines = Clock(), []
    show = Lines(lines.append, clock)
    show(Reading("grpo 1", "step", 0, 3))
    for step in (1, 2, 3):
        clock.now += 10 * LINE_SECONDS
        show(Reading("grpo 1", "step", step, 3, 0, clock.now))
    show(Reading("grpo 1", "step", 3, 3, 0, clock.now, ended=True))
    assert [line.split(",")[0].strip() for line in lines] == ["grpo 1: step 1 of 3", "grpo 1: step 2 of 3", "grpo 1: step 3 of 3"]


def test_listeners_hear_beginning_and_end_and_at_most_a_reading_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, heard = Clock(), []
    monkeypatch.setattr(workspace.time, "monotonic", clock)
    with Progress([heard.append], quiet=True).track("sft", 100, "step", 20) as bar:
        for _ in range(80):
            clock.now += 0.125
            bar.note(loss=clock.now, kl=None)
            bar.advance()
    assert [reading.done for reading in heard] == [20, *range(28, 101, 8), 100]
    assert [reading.ended for reading in heard] == [False] * 11 + [True]
    assert heard[-1].first == 20
    assert heard[-1].values == {"loss": 10.0}


def test_work_that_fails_ends_too() -> None:
    heard: list[Reading] = []
    with pytest.raises(ZeroDivisionError), Progress([heard.append], quiet=True).track("sft", 3):
        raise ZeroDivisionError
    assert heard[-1].ended


SHOW = """
import sys
from mathquarry.data.store.workspace import Progress
with Progress().track("stage", 0), Progress().track("grpo [bold]1[/bold]", 9, "step") as bar:
    bar.note(reward=0.25)
    bar._told -= 60
    bar.advance()
    print("a warning from the library", file=sys.stderr)
    print("a result")
"""


def in_terminal(program: str, kind: str = "xterm") -> str:
    """What a program shows in a terminal of 120 columns."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": kind, "COLUMNS": "120"}
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen([sys.executable, "-c", program], stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the program has ended
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_a_terminal_shows_live_lines_with_what_is_printed_above_them_and_keeps_its_cursor() -> None:
    shown = in_terminal(SHOW)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"grpo \[bold\]1\[/bold\] \S+ step 1 of 9, reward 0.25, \S+( s| min) left", text)
    assert re.search(r"stage \S+ running", text)
    assert "a warning from the library\r\n" in text
    assert "a result\r\n" in text
    assert "\x1b[?25l" not in shown


def test_a_terminal_that_cannot_redraw_gets_no_live_lines() -> None:
    shown = in_terminal(SHOW, "dumb")
    assert "\x1b" not in shown
    assert "step" not in shown


def test_without_a_terminal_standard_output_has_results_only() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert done.stdout == "a result\n"
    assert done.stderr == "a warning from the library\n"
