"""The tutorial does what it says: its blocks are executed, its patches applied, its objective trained with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data.ledger import Ledger
from data.store import Store
from tests.e2e.command_line import SMALL, CommandLine

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ((?:tests|models|data)/\S+\.py)\n")
ROOMS = ("data", "models", "tasks", "flows", "tests")


@pytest.mark.slow
def test_the_tutorial_leads_from_a_clone_to_a_run_with_another_objective(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    clone, store = tmp_path / "clone", tmp_path / "store"
    for room in ROOMS:
        shutil.copytree(ROOT / room, clone / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", clone)
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    by_hand = [text for language, text in blocks if language == "python" and not NAMED.match(text)]
    files = {match[1]: text for language, text in blocks if language == "python" and (match := NAMED.match(text))}
    patches = [text for language, text in blocks if language == "diff"]
    assert (len(by_hand), len(files), len(patches)) == (3, 1, 3)

    subprocess.run([sys.executable, "-c", "\n".join(by_hand)], cwd=clone, check=True)
    for patch in patches:
        subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=clone, check=True)
    for name, text in files.items():
        (clone / name).write_text(text)
    subprocess.run([sys.executable, "-m", "pytest", "-q", *files], cwd=clone, check=True)

    shutil.copytree(finished_store, store)
    settings = [part for field in [*SMALL, "grpo.cispo=true"] for part in ("--set", field)]
    run = [sys.executable, "-m", "flows", "run", "tiny", "--store", str(store), *settings]
    environment = {**command_line.environment, "PYTHONPATH": str(clone), "PATH": os.environ["PATH"]}
    subprocess.run(run, cwd=clone, env=environment, check=True)
    made = Ledger(Store(str(store))).query(
        "select stage, count(*) as made, count(*) filter ((config->>'$.grpo.cispo') = 'true') as changed from artifacts group by stage"
    )
    counts = {row["stage"]: (row["made"], row["changed"]) for row in made}
    assert counts["grpo"] == (4, 2)
    assert counts["sft"] == (1, 0)
