"""The tutorial works: its blocks are executed, its patches applied, and its objective is trained with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Store
from tests.e2e.command_line import SMALL, CommandLine

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ((?:tests|models|data)/\S+\.py)\n")
ROOMS = ("data", "models", "tasks", "flows", "mathquarry", "tests")


def blocks(language: str) -> list[str]:
    """The tutorial's code blocks in one language."""
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return [text for named, text in BLOCK.findall(page) if named == language]


def apply(patches: list[str], clone: Path) -> None:
    for patch in patches:
        subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=clone, check=True)


def test_its_patches_fit_the_code(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "rl", tmp_path / "models" / "rl", ignore=shutil.ignore_patterns("__pycache__"))
    apply(blocks("diff"), tmp_path)
    assert "sapo" in (tmp_path / "models" / "rl" / "objectives.py").read_text()


@pytest.mark.slow
def test_the_tutorial_leads_from_a_clone_to_a_run_with_another_objective(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    clone, store = tmp_path / "clone", tmp_path / "store"
    for room in ROOMS:
        shutil.copytree(ROOT / room, clone / room, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", clone)
    by_hand = [text for text in blocks("python") if not NAMED.match(text)]
    files = {match[1]: text for text in blocks("python") if (match := NAMED.match(text))}
    patches = blocks("diff")
    assert (len(by_hand), len(files), len(patches)) == (3, 1, 3)

    subprocess.run([sys.executable, "-c", "\n".join(by_hand)], cwd=clone, check=True)
    apply(patches, clone)
    for name, text in files.items():
        (clone / name).write_text(text)
    subprocess.run([sys.executable, "-m", "pytest", "-q", *files], cwd=clone, check=True)

    shutil.copytree(finished_store, store)
    settings = [part for field in [*SMALL, "grpo.surrogate=sapo"] for part in ("--set", field)]
    run = [sys.executable, "-m", "mathquarry.flows", "run", "tiny", "--store", str(store), *settings]
    environment = {**command_line.environment, "PYTHONPATH": str(clone), "PATH": os.environ["PATH"]}
    subprocess.run(run, cwd=clone, env=environment, check=True)
    made = Ledger(Store(str(store))).query(
        "select stage, count(*) as made, count(*) filter ((config->>'$.grpo.surrogate') = 'sapo') as changed from artifacts group by stage"
    )
    counts = {row["stage"]: (row["made"], row["changed"]) for row in made}
    assert counts["grpo"] == (4, 2)
    assert counts["sft"] == (1, 0)
