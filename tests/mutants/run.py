"""Run the tests of a mutant, in a copy of the repository and in a process that has the large libraries already."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

LIBRARIES = ("torch", "transformers", "peft", "numpy", "pyarrow", "pyarrow.parquet", "duckdb", "pydantic", "hypothesis", "fsspec", "sympy")
"""Imported once: a mutant's tests run in a fork. Nothing of this project is among them."""

ROOT = Path(__file__).parents[2]

Outcome = Literal["killed", "survived", "timeout"]


@dataclass(frozen=True)
class Trial:
    """What the tests said: `killed` if one failed, `timeout` if they did not end within the limit."""

    outcome: Outcome
    seconds: float
    log: Path


@contextlib.contextmanager
def clone_of(root: Path) -> Iterator[Path]:
    """A copy of the repository as it is, in `build/mutants`, deleted afterwards."""
    folder = root / "build" / "mutants" / f"clone-{os.getpid()}"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (root / name).is_symlink() or (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)
    for library in LIBRARIES:
        importlib.import_module(library)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def run_tests(clone: Path, tests: list[str], limit: float) -> Trial:
    """The quick ones of `tests`, until the first that fails; after `limit` seconds they are killed."""
    log = clone / "build" / "mutant.log"
    log.parent.mkdir(exist_ok=True)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _tests(clone, tests, log)
    status = None
    while status is None and time.monotonic() - started < limit:
        ended, code = os.waitpid(child, os.WNOHANG)
        status = code if ended else None
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
        return Trial("timeout", time.monotonic() - started, log)
    return Trial("survived" if status == 0 else "killed", time.monotonic() - started, log)


def _tests(clone: Path, tests: list[str], log: Path) -> None:
    """In the fork: pytest on the copy. Does not return."""
    os.setsid()
    os.chdir(clone)
    os.environ |= {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.dont_write_bytecode = True
    # This process came from the repository itself, which must not be imported.
    sys.path[:] = [str(clone), *(place for place in sys.path if place and Path(place).resolve() != ROOT)]
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "mathquarry")]:
        del sys.modules[name]
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 99
    try:
        code = int(
            pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not vllm and not serve", *tests])
        )
    finally:
        os._exit(code)
