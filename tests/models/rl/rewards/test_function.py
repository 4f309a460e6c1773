"""Users' own reward functions: found, identified by their source, called with what they need; every error is one line."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.reward_terms import RewardTerms
from mathquarry.models.rl.rewards.config import FunctionReward
from mathquarry.models.rl.rewards.function import RewardFunction, function_source
from tests.conftest import REPOSITORY
from tests.models.rl.rewards.cases import EOS, FOUR, TOKENIZER, completions

Write = Callable[[str], str]
_numbers = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module into the working folder, which is not on the path, and return its name, a new one each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])

    def write(text: str) -> str:
        name = f"rewards_of_mine_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    return write


def reward(function: str, **fields: Any) -> list[list[float]]:
    config = GRPOConfig(supervision="outcome", rewards=[FunctionReward(function=function, **fields)])
    return RewardTerms(config, TOKENIZER).rewards(completions(*FOUR), [])[0]


def refused(function: str, **fields: Any) -> str:
    with pytest.raises(MathQuarryError) as caught:
        reward(function, **fields)
    message = str(caught.value)
    assert "\n" not in message
    assert function in message
    return message


def test_a_function_in_the_working_folder_is_found_and_called(module: Write) -> None:
    name = module("def f(completions, **rest):\n    return [len(text) for text in completions]\n")
    assert reward(f"{name}:f") == [[float(len(text))] for text in FOUR]


def test_a_function_gets_texts_ids_steps_verdicts_and_every_column_of_the_problem(module: Write) -> None:
    name = module(
        "seen = {}\ndef f(completions, **rest):\n    seen.update(rest, completions=completions)\n    return [0] * len(completions)\n"
    )
    reward(f"{name}:f")
    seen = sys.modules[name].seen
    ids = seen.pop("completion_ids")
    assert [TOKENIZER.decode(tokens[:-1]) for tokens in ids] == list(FOUR)
    assert {tokens[-1] for tokens in ids} == {EOS}
    assert [ends[-1] + 1 for ends in seen.pop("step_ends")] == [len(tokens) for tokens in ids]
    assert [TOKENIZER.decode(tokens) for tokens in seen.pop("prompt_ids")] == ["2+2?", "2+2?", "2+3?", "2+3?"]
    assert seen == {
        "completions": list(FOUR),
        "prompts": ["2+2?", "2+2?", "2+3?", "2+3?"],
        "steps": [["2+2=4\n", "so 4"], ["2+2=5\n", "so 5\n"], ["5"], ["2+3=6\n", "or\n", "6"]],
        "finished": [True] * 4,
        "correct": [True, False, True, False],
        "id": ["p", "p", "q", "q"],
        "question": ["2+2?", "2+2?", "2+3?", "2+3?"],
        "answer": ["4", "4", "5", "5"],
        "solution": ["2+2=4", "2+2=4", "", ""],
        "language": ["en"] * 4,
        "source": ["here", "here", "", ""],
        "tolerance": [0.0, 0.0, 0.1, 0.1],
        "completion_mask": [[1] * len(tokens) for tokens in ids],
        "calls": [[], [], [], []],
    }


def test_a_function_gets_only_what_it_asks_for_and_the_recipes_arguments(module: Write) -> None:
    name = module("def f(completion_ids, answer, *, factor, offset=1):\n    return [factor * int(one) + offset for one in answer]\n")
    assert reward(f"{name}:f", arguments={"factor": 10}) == [[41.0], [41.0], [51.0], [51.0]]
    assert reward(f"{name}:f", arguments={"factor": 0.5, "offset": 0}) == [[2.0], [2.0], [2.5], [2.5]]


def test_what_a_function_does_to_its_arguments_changes_nothing(module: Write) -> None:
    name = module("def f(completion_ids, step_ends):\n    [x.clear() for x in completion_ids + step_ends]\n    return [1.0] * 4\n")
    scored = completions(*FOUR)
    config = GRPOConfig(supervision="outcome", rewards=[FunctionReward(function=f"{name}:f")])
    RewardTerms(config, TOKENIZER).rewards(scored, [])
    assert (scored.completion_ids, scored.step_ends) == (completions(*FOUR).completion_ids, completions(*FOUR).step_ends)


@pytest.mark.parametrize(
    "values", ["numpy.array([1, 2, 3, 4])", "torch.tensor([1., 2., 3., 4.])", "[numpy.float32(1), True + 1, 3, torch.tensor(4)]"]
)
def test_arrays_and_tensors_are_numbers(values: str, module: Write) -> None:
    name = module(f"import numpy, torch\ndef f(completions):\n    return {values}\n")
    assert reward(f"{name}:f") == [[1.0], [2.0], [3.0], [4.0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("[1.0] * 3", "returned 3 values for 4 completions"),
        ("[]", "returned 0 values for 4 completions"),
        ("None", "returned None; return a list"),
        ("1.0", "returned 1.0; return a list"),
        ("'abcd'", "returned 'abcd'; return a list"),
        ("{1: 2}", "return a list with one entry per completion"),
        ("(x for x in completions)", "return a list with one entry per completion"),
        ("[0, 1, float('nan'), 2]", "returned nan for completion 2; a reward must be a finite number"),
        ("[0, 1, 2, float('inf')]", "returned inf for completion 3"),
        ("[0, -1e39, 2, 3]", "returned -1e+39 for completion 1"),
        ("[0, 10**400, 2, 3]", "for completion 1; a reward must be a finite number"),
        ("[0, 1, None, 2]", "returned None for completion 2"),
        ("[0, 1, '2', 2]", "returned '2' for completion 2"),
        ("[0, 1, 2j, 2]", "returned 2j for completion 2"),
        ("[0, [1.0, 1.0], 2, 3]", "a list for some completions and a number for others (completion 1)"),
        ("[[0, 0], [0, 0], [0], [0, 0]]", "returned 2 values for completion 3, which has 3 steps"),
        ("[[0, 0], [0, float('nan')], [0], [0, 0, 0]]", "returned nan for step 1 of completion 1"),
        ("[[0, 0], [0, [1]], [0], [0, 0, 0]]", "returned [1] for step 1 of completion 1"),
        ("[[0, 0], [0, 0], [0], [0, 0, 0]]", "one value per step, which is only used with process supervision of groups"),
    ],
)
def test_values_that_do_not_fit_are_told_in_one_line(values: str, message: str, module: Write) -> None:
    name = module(f"def f(completions):\n    return {values}\n")
    assert message in refused(f"{name}:f")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('two\\nlines')", "failed: ValueError: two lines ("),
        ("return [1 / 0]", "failed: ZeroDivisionError: division by zero ("),
        ("raise SystemExit(0)", "failed: SystemExit: 0 ("),
        ("raise KeyError", "failed: KeyError ("),
    ],
)
@pytest.mark.parametrize("fields", [{}, {"timeout_seconds": 60.0}], ids=["here", "in a thread"])
def test_an_exception_is_reported_with_its_line(fields: dict[str, float], body: str, message: str, module: Write) -> None:
    name = module(f"def f(completions):\n    {body}\n")
    told = refused(f"{name}:f", **fields)
    assert message in told
    assert f"{name}.py, line 2)" in told


def test_a_function_that_takes_too_long_is_reported(module: Write) -> None:
    name = module("import threading\ndef f(completions):\n    threading.Event().wait()\n")
    assert "has not returned after 0.05 s" in refused(f"{name}:f", timeout_seconds=0.05)
    quick = module("def f(completions):\n    return [1] * 4\n")
    assert reward(f"{quick}:f", timeout_seconds=60.0) == [[1.0]] * 4


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        ("", "f", "has no `f`"),
        ("f = 3\n", "f", "has `f`, which is not a function"),
        ("class f:\n    def __init__(self, completions): ...\n", "f", "has `f`, which is not a function"),
        ("async def f(completions): ...\n", "f", "is `async`"),
        ("def f(prompts, **rest): ...\n", "f", "no parameter `completions` or `completion_ids`"),
        ("def f(**rest): ...\n", "f", "no parameter `completions` or `completion_ids`"),
        ("def f(completions, colour): ...\n", "f", "has an unknown parameter `colour`. Known are answer, "),
        ("def f(completions, /): ...\n", "f", "no parameter `completions`"),
        ("def f(x, /, completions): ...\n", "f", "has an unknown parameter `x`"),
        ("from os import popen as f\n", "f", "no parameter `completions`"),
        ("def f(:\n", "f", "cannot be imported: SyntaxError"),
        ("import no_such_thing\n", "f", "cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise SystemExit(3)\n", "f", "cannot be imported: SystemExit: 3"),
    ],
)
def test_what_is_no_reward_function_is_reported_before_anything_runs(text: str, function: str, message: str, module: Write) -> None:
    assert message in refused(f"{module(text)}:{function}")


def test_arguments_that_the_function_does_not_take_are_reported(module: Write) -> None:
    name = module("def f(completions):\n    return [0] * 4\n")
    assert "`arguments` has `factor`" in refused(f"{name}:f", arguments={"factor": 1})
    everything = module("def f(completions, **rest):\n    return [0] * 4\n")
    assert "`arguments` has `answer`" in refused(f"{everything}:f", arguments={"answer": "7"})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_such_rewards:f", "there is no module `no_such_rewards` on Python's path or in "),
        ("models.no_such:f", "there is no module `models.no_such`"),
        ("mathquarry.models.config.deeper:f", "`mathquarry.models.config` is a module, not a package, so it has no `deeper`"),
        ("os:popen", "`os` is a module of Python's standard library"),
        ("subprocess:run", "`subprocess` is a module of Python's standard library"),
        ("builtins:exec", "`builtins` is a module of Python's standard library"),
    ],
)
def test_a_module_that_is_not_there_or_not_ones_own_is_reported(function: str, message: str, module: Write) -> None:
    assert message in refused(function)


def test_a_folder_without_code_is_reported(module: Write, tmp_path: Path) -> None:
    (tmp_path / "empty_rewards").mkdir()
    assert "is a folder without code" in refused("empty_rewards:f")


@pytest.mark.parametrize("name", ["f", "a:b:c", "a b:f", ":f", "a:", "../a:f", "a.:f", "a:f()", "a:f\n", "1a:f", "a-b:f"])
def test_what_is_no_name_of_a_function_is_refused_by_the_config(name: str) -> None:
    with pytest.raises(ValidationError, match="function"):
        FunctionReward(function=name)


def test_the_source_is_the_modules_file_and_changes_with_it(module: Write, tmp_path: Path) -> None:
    name = module("raise RuntimeError('never imported')\n")
    first = function_source(f"{name}:f")
    assert first.path == f"function:{name}:f"
    assert function_source(f"{name}:f") == first
    (tmp_path / "other.py").write_text("")
    assert function_source(f"{name}:f") == first
    assert function_source(f"{name}:g").sha256 != first.sha256
    (tmp_path / f"{name}.py").write_text("# another\n")
    assert function_source(f"{name}:f").sha256 != first.sha256
    assert name not in sys.modules


def test_the_source_of_a_package_is_all_its_python_files_and_none_is_imported(module: Write, tmp_path: Path) -> None:
    package = tmp_path / "space_of_mine" / "rewards_of_mine"
    package.mkdir(parents=True)
    for file in ("__init__", "short", "helpers"):
        (package / f"{file}.py").write_text("raise RuntimeError('never imported')\n")
    function = "space_of_mine.rewards_of_mine.short:f"
    first = function_source(function)
    assert first.bytes == 3 * len("raise RuntimeError('never imported')\n")
    (package / "notes.txt").write_text("no code")
    (tmp_path / "space_of_mine" / "beside.py").write_text("not in the package")
    assert function_source(function) == first
    (package / "helpers.py").write_text("")
    assert function_source(function).sha256 != first.sha256


def test_a_function_that_changed_after_its_import_is_not_used(module: Write, tmp_path: Path) -> None:
    name = module("def f(completions):\n    return [0] * 4\n")
    assert reward(f"{name}:f") == [[0.0]] * 4
    (tmp_path / f"{name}.py").write_text("def f(completions):\n    return [1] * 4\n")
    assert "changed since this process imported it" in refused(f"{name}:f")


def test_a_function_that_cannot_be_imported_may_be_corrected(module: Write, tmp_path: Path) -> None:
    name = module("def f(:\n")
    refused(f"{name}:f")
    (tmp_path / f"{name}.py").write_text("def f(completions):\n    return [1] * 4\n")
    assert reward(f"{name}:f") == [[1.0]] * 4


def test_a_file_in_the_working_folder_never_replaces_an_installed_module(module: Write, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("def f(completions): ...\n")
    assert "there is no" not in refused("numpy:f")
    assert function_source("numpy:f").bytes > 10_000


def test_an_installed_command_finds_a_function_in_the_folder_it_is_started_in(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(completions):\n    return [0.5] * len(completions)\n")
    script = tmp_path / "bin" / "command.py"
    script.parent.mkdir()
    script.write_text(
        "from mathquarry.models.rl.rewards.config import FunctionReward\nfrom mathquarry.models.rl.rewards.function import RewardFunction\n"
        "print(RewardFunction(FunctionReward(function='mine:f'))({'completions': ['a']}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "[0.5]\n"


def test_a_callable_object_is_a_function_too(module: Write) -> None:
    name = module("class Fixed:\n    def __call__(self, completions):\n        return [2] * 4\nf = Fixed()\n")
    assert reward(f"{name}:f") == [[2.0]] * 4
    assert math.isfinite(RewardFunction(FunctionReward(function=f"{name}:f"))({"completions": []})[0])
