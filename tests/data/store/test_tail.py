"""Metrics can be read while a stage writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mathquarry.data.store.tail import MetricTail
from mathquarry.data.store.workspace import MetricLog


def steps(tail: MetricTail) -> list[int]:
    return [record["step"] for record in tail.look()]


def test_each_look_finds_what_was_added(tmp_path: Path) -> None:
    log, tail = MetricLog(tmp_path / "metrics.jsonl"), MetricTail(tmp_path / "metrics.jsonl")
    assert steps(tail) == []
    for step in range(1, 4):
        log.log(step, loss=0.5)
        assert steps(tail) == steps(tail) == list(range(1, step + 1))


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = json.dumps({"step": 1, "time": 0.0, "values": {"loss": 0.5}})
    path.write_text(line[:9])
    tail = MetricTail(path)
    assert steps(tail) == []
    path.write_text(line + "\n")
    assert tail.look() == [json.loads(line)]


@pytest.mark.parametrize("further", [0, 5])
def test_after_a_rewind_the_steps_that_were_dropped_are_gone(tmp_path: Path, further: int) -> None:
    log, tail = MetricLog(tmp_path / "metrics.jsonl"), MetricTail(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        log.log(step, loss=0.5)
    assert steps(tail) == [1, 2, 3, 4, 5]
    log.rewind(2)
    for step in range(3, 3 + further):
        log.log(step, loss=0.25)
    assert steps(tail) == list(range(1, 3 + further))
    log.path.unlink()
    assert steps(tail) == []
