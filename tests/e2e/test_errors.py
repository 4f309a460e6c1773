"""A user's view of errors: one message that names the cause, no traceback, no incomplete artifact."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mathquarry.data.store.store import Store, verify_files
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow


def failure(command_line: CommandLine, store: Path, *arguments: str) -> str:
    """The message of a run that fails; checks that it is a message and that every remaining artifact is complete."""
    output = command_line.run(*command_line.tiny(store, *arguments), status=1)
    assert "mathquarry: " in output
    assert "Traceback" not in output
    for folder, manifest in Store(store).manifests():
        assert verify_files(folder, manifest) == []
    return output


def crawl_of(path: Path) -> str:
    return f'crawl.source={{kind="files", warcs=["{path}"]}}'


def problems_of(train: Path, test: Path) -> str:
    return f'problems.source={{kind="files", dataset="gsm8k", train=["{train}"], test=["{test}"]}}'


def test_a_missing_warc_is_named(command_line: CommandLine, tmp_path: Path) -> None:
    assert f"{tmp_path}/nowhere.warc.gz" in failure(command_line, tmp_path / "store", "--set", crawl_of(tmp_path / "nowhere.warc.gz"))


def test_a_warc_of_garbage_is_named(command_line: CommandLine, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.warc.gz"
    garbage.write_bytes(bytes(range(256)) * 40)
    assert str(garbage) in failure(command_line, tmp_path / "store", "--set", crawl_of(garbage))


def test_an_empty_problem_file_is_named(command_line: CommandLine, tmp_path: Path) -> None:
    for name in ("train.jsonl", "heldout.jsonl"):
        (tmp_path / name).touch()
    output = failure(command_line, tmp_path / "store", "--set", problems_of(tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"))
    assert "train.jsonl" in output


def test_a_checkpoint_of_another_architecture_is_named(command_line: CommandLine, finished_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    wrong = tmp_path / "bert"
    wrong.mkdir()
    (wrong / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    output = failure(command_line, store, "--set", f'model={{kind="pretrained", path="{wrong}"}}')
    assert str(wrong) in output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_reported_and_leaves_whole_artifacts(command_line: CommandLine, small_disk: Path) -> None:
    output = failure(command_line, small_disk / "store")
    # Which write meets the full disk first, and how its library says so, is not ours to choose.
    assert "Free some space" in output
