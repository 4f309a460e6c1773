"""kill -9 at random points of every stage: finished work is kept, the rest resumes, and the artifacts are identical to the byte."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from mathquarry.data.store.store import Store, verify_files
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow

MEASURED_FILES = {"metrics.jsonl", "report.html"}
"""Files that contain times, which differ between any two runs."""
REPEATED = {"evaluate-sft", "evaluate-rl-1", "grpo-2", "evaluate-rl-2"}
"""Stages that repeat an earlier one with other inputs; `reward-1` is a refresh, which differs from `reward-0`."""


def contents(store: Path) -> dict[tuple[str, str], dict[str, str]]:
    """(stage, key) -> digests of the artifact's files, without those that contain times."""
    return {
        (manifest["stage"], manifest["key"]): {
            file["path"]: file["sha256"] for file in manifest["files"] if Path(file["path"]).name not in MEASURED_FILES
        }
        for _, manifest in Store(store).manifests()
    }


def test_killed_in_every_stage_the_run_ends_with_the_same_artifacts(
    command_line: CommandLine, finished_store: Path, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    store = tmp_path / "store"
    seed = random.randrange(2**32)
    record_property("seed", seed)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stages = [stage for stage in Store(finished_store).runs()[-1]["stages"] if stage["name"] not in REPEATED]
    killed = []
    for stage in stages:
        process = command_line.start(*command_line.tiny(store))
        room, place = store / "work" / stage["key"] / "out", Store(store).folder(stage["stage"], stage["key"])
        while not room.exists() and not place.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, stage["seconds"]))
        if process.poll() is None:
            killed.append(stage["name"])
        command_line.kill(process)
        for folder, manifest in Store(store).manifests():
            assert verify_files(folder, manifest) == [], f"{manifest['stage']} after a kill in {stage['name']} (seed {seed})"
    # Only the last stages can be over before the kill arrives.
    assert len(killed) >= len(stages) - 2, killed
    command_line.run(*command_line.tiny(store))
    assert contents(store) == contents(finished_store)
