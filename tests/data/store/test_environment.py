"""Manifests record where artifacts were made, and with which resources."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.store.environment import Meter, environment, parse_gpu
from mathquarry.data.store.store import Identity, Store
from mathquarry.data.store.workspace import Workspace

MIB = 1 << 20


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def build(store: Store, work: Any, **config: Any) -> dict[str, Any]:
    return store.build(Identity("mine", 1, config, {}), work).manifest


def test_a_manifest_names_system_hardware_and_packages(tmp_path: Path) -> None:
    found = build(Store(tmp_path), lambda workspace: {})["environment"]
    assert found == json.loads(json.dumps(environment()))
    assert found["host"] in ("container", "machine")
    assert found["processors"] >= 1
    assert found["memory_bytes"] > 64 * MIB
    assert {"torch", "transformers", "prefect", "duckdb"} <= set(found["packages"])


def test_processor_time_counts_this_process_and_children_that_ended(tmp_path: Path) -> None:
    def work(workspace: Workspace) -> dict[str, Any]:
        burn(0.2)
        subprocess.run(["python3", "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
        return {}

    manifest = build(Store(tmp_path), work)
    assert manifest["usage"]["cpu_seconds"] >= 0.45


def test_a_failed_attempts_use_is_added_to_the_next(tmp_path: Path) -> None:
    def fail(workspace: Workspace) -> dict[str, Any]:
        burn(0.2)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        build(Store(tmp_path), fail)
    manifest = build(Store(tmp_path), lambda workspace: {})
    assert manifest["usage"]["cpu_seconds"] >= 0.2
    assert manifest["seconds"] >= 0.2


def test_peak_memory_is_each_artifacts_own(tmp_path: Path) -> None:
    def hold(workspace: Workspace) -> dict[str, Any]:
        return {"bytes": len(b"x" * (300 * MIB))}

    great = build(Store(tmp_path), hold, which="great")["usage"]["peak_bytes"]
    small = build(Store(tmp_path), lambda workspace: {}, which="small")["usage"]["peak_bytes"]
    assert great - small > 200 * MIB


def test_where_the_kernel_keeps_no_peak_none_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> int:
        raise PermissionError(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", refuse)
        meter = Meter(tmp_path / "usage.json")
    assert meter.used().peak_bytes is None


def test_the_key_knows_nothing_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = build(Store(tmp_path / "here"), lambda workspace: {})
    monkeypatch.setattr("mathquarry.data.store.artifacts.environment", lambda: {"system": "another"})
    there = build(Store(tmp_path / "there"), lambda workspace: {})
    assert (there["key"], there["environment"]) == (here["key"], {"system": "another"})


def test_a_gpus_line_is_read_and_what_it_does_not_know_is_none() -> None:
    assert parse_gpu("NVIDIA H200, 143771, 700.00, 570.86.15") == {
        "name": "NVIDIA H200",
        "memory_mib": 143771.0,
        "watts": 700.0,
        "driver": "570.86.15",
    }
    assert parse_gpu("NVIDIA GB10, [N/A], [N/A], 580.95.05")["watts"] is None


def gpus(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch, chosen: str | None = None) -> list[dict[str, Any]] | None:
    """The GPUs in the environment if nvidia-smi is `script`."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    return environment.__wrapped__()["gpus"]


def test_the_drivers_tool_is_asked_for_the_gpus_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "echo 'NVIDIA H200, 143771, 700.00, 570.86.15'"
    assert [gpu["watts"] for gpu in gpus(tmp_path, f"{line}; {line}", monkeypatch) or []] == [700.0, 700.0]
    told = gpus(tmp_path, 'echo "asked for $(echo $* | tail -c 4 | tr , +), 1, 2, 3"', monkeypatch, chosen="1,3")
    assert told == [{"name": "asked for 1+3", "memory_mib": 1.0, "watts": 2.0, "driver": "3"}]
    assert gpus(tmp_path, line, monkeypatch, chosen="") == []


def test_a_driver_that_cannot_be_asked_is_not_taken_for_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus(tmp_path, "echo 'NVIDIA-SMI has failed'; exit 9", monkeypatch) is None
