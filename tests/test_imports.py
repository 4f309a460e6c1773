"""The layers of the code: imports go down only (`[tool.importlinter]` in pyproject.toml), and no folder has too many modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ROOMS = ("data", "models", "tasks", "flows")
LONGEST = 300
"""Most lines of a module."""
MOST_LOOSE = 6


def lint(config: Path) -> subprocess.CompletedProcess[str]:
    linter = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(config_filename=sys.argv[1], cache_dir=None))"
    return subprocess.run([sys.executable, "-c", linter, str(config)], cwd=REPOSITORY, capture_output=True, text=True)


def test_imports_go_down_and_never_round_in_a_circle() -> None:
    done = lint(REPOSITORY / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_an_import_that_goes_up_is_found(tmp_path: Path) -> None:
    """With the layers upside down, every import between the packages is a violation."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    turned = text.replace('layers = ["flows", "tasks", "models", "data"]', 'layers = ["data", "models", "tasks", "flows"]')
    assert turned != text
    (tmp_path / "pyproject.toml").write_text(turned, encoding="utf-8")
    done = lint(tmp_path / "pyproject.toml")
    assert done.returncode == 1
    assert "rooms BROKEN" in done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_few_loose_modules(room: str) -> None:
    """`tasks/` has one file per stage."""
    loose = [path.name for path in (REPOSITORY / room).glob("*.py") if not path.name.startswith("__")]
    assert room == "tasks" or len(loose) <= MOST_LOOSE, loose


def test_a_module_is_one_reading() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")}
    assert {str(path.relative_to(REPOSITORY)): length for path, length in lengths.items() if length > LONGEST} == {}
