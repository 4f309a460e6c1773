"""The list of system calls, and the documentation that gives a reason for each."""

from __future__ import annotations

import re

from mathquarry.data.programs.service.calls import CONDITIONS, PLAIN
from tests.conftest import REPOSITORY

TAKES_A_COMMAND = {"fcntl", "ioctl", "futex", "madvise", "prlimit64", "mmap", "open", "openat", "clock_nanosleep", "clock_gettime"}


def test_every_call_has_its_line_in_the_documentation_and_every_line_its_call() -> None:
    table = (REPOSITORY / "docs" / "sandbox.md").read_text().partition("## System calls")[2]
    documented = [name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    allowed = [*PLAIN.split(), *(name for name, _ in CONDITIONS)]
    assert len(set(documented)) == len(documented)
    assert set(documented) == set(allowed)


def test_a_call_that_takes_a_command_or_another_process_is_never_allowed_whatever_its_arguments() -> None:
    assert not TAKES_A_COMMAND & set(PLAIN.split())
    assert all(conditions for _, conditions in CONDITIONS)
    assert len(PLAIN.split()) == len(set(PLAIN.split()))
