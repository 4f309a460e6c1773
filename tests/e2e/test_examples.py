"""The examples of the documentation, as a reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


def run(example: str, *arguments: str) -> str:
    command = [sys.executable, f"docs/examples/{example}.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_few_pages_are_mined_and_later_rounds_find_pages_without_formulas() -> None:
    output = run("mine_a_few_pages")
    assert "captures are in the corpus after" in output
    assert "round 2" in output
    assert ", 0 of these without any formula" in output.split("round 2")[0]
    assert ", 0 of these without any formula" not in output.split("round 2")[1].splitlines()[0]


def test_the_gradient_by_hand_is_autograds() -> None:
    *_, autograd, equation = run("grpo_by_hand").splitlines()
    assert autograd == equation != ""


def test_a_rollout_of_a_finished_run_can_be_read(finished_store: Path) -> None:
    output = run("read_a_rollout", str(finished_store), "2")
    assert ", step 2: " in output
    assert sum(int(line.split()[0]) for line in output.splitlines() if " times, " in line) == 4
