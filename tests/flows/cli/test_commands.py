"""The commands' arguments, and the imports needed to parse them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.problems.config import AnswerFrom
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.prompts import PromptStyle
from mathquarry.data.store.artifacts import Identity
from mathquarry.data.store.store import Store
from mathquarry.flows.__main__ import command_parser
from mathquarry.flows.cli.commands.models import ANSWER_FROM, FORMATS, PROMPTS, SANDBOXES
from mathquarry.flows.cli.commands.recipes import COMPARED, EXPERIMENTS
from mathquarry.models.experiments import Compared, Experiment

HEAVY = ("torch", "transformers", "prefect", "datasets", "duckdb", "pyarrow", "numpy", "pydantic")


def imported(*arguments: str) -> set[str]:
    """Packages that a command imports, by name."""
    script = (
        "import sys\n"
        "from mathquarry.flows.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('\\nmodules', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["stages"]], ids=" ".join)
def test_help_imports_none_of_the_large_libraries(arguments: list[str]) -> None:
    assert imported(*arguments).isdisjoint(HEAVY)


def test_listing_a_ledger_imports_the_database_and_none_of_the_others(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    made = Store(store).build(Identity("sft", 1, {}, {}), lambda workspace: {})
    Ledger(Store(store)).record(made)
    assert imported("ledger", "ls", "--store", store) & set(HEAVY) == {"duckdb"}


def test_choices_that_are_written_down_twice_agree() -> None:
    assert (get_args(Compared), get_args(Experiment)) == (COMPARED, EXPERIMENTS)
    assert (get_args(AnswerFrom), get_args(SolutionFormat), get_args(PromptStyle)) == (ANSWER_FROM, FORMATS, PROMPTS)
    assert set(SANDBOXES) <= set(get_args(ProgramsConfig.model_fields["sandbox"].annotation))


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                found |= {name: command, **{f"{name} {below}": one for below, one in commands_of(command).items()}}
    return found


def test_every_command_says_what_it_does() -> None:
    leaves = {name: one for name, one in commands_of(command_parser()).items() if not commands_of(one)}
    assert "ledger gc" in leaves
    assert [name for name, one in leaves.items() if name != "deploy" and not one.description] == []
    assert all(one.get_default("run") for one in leaves.values())
