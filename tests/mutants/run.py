"""Run the tests of a mutant, in a copy of the repository and in a process that has the large libraries already."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
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

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "numpy",
    "pyarrow",
    "pyarrow.parquet",
    "duckdb",
    "pydantic",
    "hypothesis",
    "fsspec",
    "sympy",
    "prefect",
)
"""Imported once: a mutant's tests run in a fork. Nothing of this project is among them."""

ROOT = Path(__file__).parents[2]

Outcome = Literal["killed", "survived", "timeout"]


@dataclass(frozen=True)
class Trial:
    """What the tests said: `killed` if one failed, `timeout` if they did not end within the limit. Seconds are of the processor, of all
    processes together."""

    outcome: Outcome
    seconds: float
    log: Path


@dataclass(frozen=True)
class Limit:
    """Most seconds that the tests' process may compute, and most that may pass: a busy machine is no reason to call a mutant killed."""

    computing: int = 600
    passing: float = 3600.0

    @classmethod
    def after(cls, unchanged: Trial) -> Limit:
        """A limit for mutants of a module whose tests took that long without one."""
        return cls(int(max(20, 5 * unchanged.seconds)), max(300, 50 * unchanged.seconds))


@contextlib.contextmanager
def clone_of(root: Path) -> Iterator[Path]:
    """A folder in `build/mutants` for a copy of the repository, deleted afterwards."""
    folder = root / "build" / "mutants" / f"clone-{os.getpid()}"
    for library in LIBRARIES:
        importlib.import_module(library)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_repository(root: Path, folder: Path) -> None:
    """Copy the repository as it is now, without what git ignores."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (root / name).is_symlink() or (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)


def run_tests(clone: Path, tests: list[str], limit: Limit) -> Trial:
    """The quick ones of `tests`, until the first that fails; they are killed at the limit."""
    log = clone / "build" / "mutant.log"
    log.parent.mkdir(exist_ok=True)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _tests(clone, tests, log, limit)
    ended = 0
    while not ended and time.monotonic() - started < limit.passing:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        _, status, usage = os.wait4(child, 0)
    late = not ended or status == signal.SIGXCPU
    return Trial("timeout" if late else "survived" if status == 0 else "killed", usage.ru_utime + usage.ru_stime, log)


def _tests(clone: Path, tests: list[str], log: Path, limit: Limit) -> None:
    """In the fork: pytest on the copy. Does not return."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (limit.computing, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    os.chdir(clone)
    os.environ |= {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    # The shared test data lie beside the repository and not beside its copy.
    os.environ.setdefault("MATHQUARRY_SHARED", str(ROOT.parent / "shared" / "data"))
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
