"""Rejection sampling: correct solutions are kept, each once and a few per question, and every drop has a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.example import Example, Segment, read_examples, write_examples
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.evaluate import rejection as stage
from mathquarry.models.evaluate import sample_and_grade
from mathquarry.models.evaluate.config import RejectionConfig
from mathquarry.models.evaluate.rejection import sample_solutions
from mathquarry.models.policy.checkpoint import new_policy, save
from mathquarry.models.policy.config import ScratchModel
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.tokenizer import encode, train_tokenizer
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig
from mathquarry.models.rollout.engine import Completion
from mathquarry.models.train.config import SFTConfig
from mathquarry.models.train.packing import IGNORED
from mathquarry.models.train.sft import finetune, label_solutions

PROGRAM = "```python\na=1+1\nprint(a)\n```"
CONFIG = RejectionConfig(
    formats=["cot"],
    group_size=7,
    kept_per_question=2,
    rollout=RolloutConfig(max_tokens=80),
    tools=ToolsConfig(programs=ProgramsConfig(sandbox="arithmetic")),
    grade=GradeConfig(workers=1),
)
MARKS: dict[str, SolutionFormat] = {"Answer:": "cot", "Program:": "pot", "Tool:": "tool"}


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    folder = tmp_path / "problems"
    folder.mkdir()
    write_problems(folder / "train.jsonl", [Problem(f"p{number}", f"What is 1+{number}?", str(1 + number)) for number in (1, 2, 3)])
    return folder


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Existing examples: one of them is the policy's answer to the second problem."""
    write_examples(tmp_path / "given" / "examples.jsonl", [Example("p2", "What is 1+2?", "cot", "en", [Segment(r"So \boxed{3}")], "3")])
    return tmp_path / "given"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    tokenizer = train_tokenizer([PROGRAM, "```output\n2\n```\n", r"What is 1+1? So it is \boxed{2}", *MARKS] * 4, 290)
    model = new_policy(ScratchModel(layers=1, hidden=16, heads=2, intermediate=16), tokenizer, seed=0)
    save(model, tokenizer, tmp_path / "policy", "short")
    return tmp_path / "policy"


class Scripted:
    """Writes the given replies in turn to every question, up to the stop string; one that ends in `...` is cut there."""

    limit = None

    def __init__(self, prompter: Prompter, replies: dict[SolutionFormat, list[str]]) -> None:
        self.tokenizer, self.replies = prompter.tokenizer, replies

    def generate(self, prompts: list[list[int]], *, n: int, stop: Any = None, **_: object) -> list[list[Completion]]:
        groups = []
        for prompt in prompts:
            text = self.tokenizer.decode(prompt)
            mark, format = next((mark, format) for mark, format in MARKS.items() if mark in text)
            said = text.split(mark)[1]
            if "```output" in said:  # it has read a program's completion: say the rest of the reply that began like this
                begin = said.split("```output")[0].strip()
                wanted = [reply.split("@")[1] for reply in self.replies[format] if reply.split("@")[0].strip() == begin]
            else:
                wanted = [reply.split("@")[0] for reply in self.replies[format]]
            groups.append([self._completion(wanted[sample % len(wanted)], stop) for sample in range(n)])
        return groups

    def _completion(self, reply: str, stop: Any) -> Completion:
        tokens = encode(self.tokenizer, reply)
        for end in range(1, len(tokens) + 1):
            if stop is not None and tokens[end - 1] in stop.tokens and stop.holds(tokens[:end]):
                return Completion(tokens[:end], [0.0] * end, False, True)
        if not reply.endswith("..."):
            tokens.append(self.tokenizer.eos_token_id)
        return Completion(tokens, [0.0] * len(tokens), not reply.endswith("..."))

    def close(self) -> None: ...


@pytest.fixture
def says(policy: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the policy give these answers."""
    prompter = Prompter.load(policy)
    return lambda **replies: monkeypatch.setattr(sample_and_grade, "make_engine", lambda *_, **__: Scripted(prompter, replies))


def rows_of(workspace: Workspace) -> list[dict[str, Any]]:
    return pq.read_table(workspace.out / "solutions.parquet").to_pylist()


def test_every_solution_has_a_reason_and_at_most_k_right_and_different_ones_are_kept(
    problems: Path, given: Path, policy: Path, says: Callable[..., None], tmp_path: Path
) -> None:
    replies = [
        r"So \boxed{3}",
        r"So  \boxed{3}" + "\n",
        r"It is \boxed{2}",
        r"is \boxed{3}",
        r"So it is \boxed{3}",
        "So it is 3",
        r"So \boxed{3} ...",
    ]
    says(cot=replies)
    workspace = Workspace.at(tmp_path / "space")
    summary = sample_solutions(CONFIG, policy, problems, given, workspace)
    reasons = {row["problem_id"]: [] for row in rows_of(workspace)}
    for row in rows_of(workspace):
        reasons[row["problem_id"]].append(row["reason"])
    wrong = "wrong-answer"
    assert reasons["p1"] == [wrong, wrong, None, wrong, wrong, "no-answer", "cut"]
    # Its first solution is among the given examples already.
    assert reasons["p2"] == ["duplicate", "duplicate", wrong, None, None, "no-answer", "cut"]
    assert reasons["p3"] == [wrong] * 5 + ["no-answer", "cut"]
    assert [(example.problem_id, example.text) for example in read_examples(workspace.out / "examples.jsonl")] == [
        ("p1", r"It is \boxed{2}"),
        ("p2", r"is \boxed{3}"),
        ("p2", r"So it is \boxed{3}"),
    ]
    assert (summary["questions"], summary["solved"], summary["solutions"], summary["kept"], summary["dropped"]) == (3, 2, 21, 3, 18)
    assert summary["kept"] + sum(count for name, count in summary.items() if name.startswith("dropped_")) == 21


def test_what_is_right_beyond_k_is_dropped_for_that(
    problems: Path, given: Path, policy: Path, says: Callable[..., None], tmp_path: Path
) -> None:
    says(cot=[r"So it is \boxed{2}", r"It is \boxed{2}", r"is \boxed{2}", r"is \boxed{2}"])
    workspace = Workspace.at(tmp_path / "space")
    sample_solutions(CONFIG.model_copy(update={"questions": 3, "group_size": 4}), policy, problems, given, workspace)
    found = [row["reason"] for row in rows_of(workspace) if row["problem_id"] == "p1"]
    assert found == [None, None, "enough-for-the-question", "duplicate"]


def test_programs_are_run_and_what_they_print_is_read_and_not_learnt(
    problems: Path, given: Path, policy: Path, says: Callable[..., None], tmp_path: Path
) -> None:
    broken = PROGRAM.replace("1+1", "b+1")
    says(pot=[PROGRAM, broken, "So it is 2"], tool=[PROGRAM + r"@So \boxed{2}", broken + r"@So \boxed{2}", r"So \boxed{2}"])
    workspace = Workspace.at(tmp_path / "space")
    config = CONFIG.model_copy(update={"formats": ["pot", "tool"], "group_size": 3})
    summary = sample_solutions(config, policy, problems, given, workspace)
    assert [row["reason"] for row in rows_of(workspace) if row["problem_id"] == "p1"] == [None, "program-failed", "no-program"] * 2
    assert (summary["kept_pot"], summary["kept_tool"], summary["solved"]) == (1, 1, 1)
    pot, tool = read_examples(workspace.out / "examples.jsonl")
    assert (pot.format, pot.segments) == ("pot", [Segment(PROGRAM)])
    assert [segment.trained for segment in tool.segments] == [True, False, True]
    assert tool.text == f"{PROGRAM}\n```output\n2\n```\nSo \\boxed{{2}}"
    assert tool.segments[1].text.strip() == "```output\n2\n```"

    prompter = Prompter.load(policy)
    ((tokens, labels),) = label_solutions(prompter, [tool])
    learnt = prompter.tokenizer.decode(tokens[labels != IGNORED], skip_special_tokens=True)
    assert learnt == f"{PROGRAM}So \\boxed{{2}}"


def test_the_space_between_prompt_and_answer_is_no_part_of_an_example(
    problems: Path, given: Path, policy: Path, says: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prompter, "lead", " ")
    says(cot=[r" So it is \boxed{2}"])
    workspace = Workspace.at(tmp_path / "space")
    sample_solutions(CONFIG, policy, problems, given, workspace)
    assert [example.text for example in read_examples(workspace.out / "examples.jsonl")] == [r"So it is \boxed{2}"]


def test_nothing_kept_is_an_error_with_the_counts(
    problems: Path, given: Path, policy: Path, says: Callable[..., None], tmp_path: Path
) -> None:
    says(cot=["So it is 2"])
    with pytest.raises(MathQuarryError, match=r"none of 21 sampled solutions was kept \(no-answer 21\).*rejection\.group_size"):
        sample_solutions(CONFIG, policy, problems, given, Workspace.at(tmp_path / "space"))


def test_an_interrupted_run_ends_with_the_same_bytes(
    problems: Path, given: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mathquarry.models.evaluate.question_chunks.CHUNK_QUESTIONS", 1)
    # A model from random weights is never right; what it is asked does not matter here, only that all of it is asked once.
    monkeypatch.setattr(stage, "drop_reason", lambda answer, format: None if answer.tokens % 2 else "cut")
    whole, broken = Workspace.at(tmp_path / "whole"), Workspace.at(tmp_path / "broken")
    config = CONFIG.model_copy(update={"rollout": RolloutConfig(max_tokens=5)})
    sample_solutions(config, policy, problems, given, whole)

    ask, calls = sample_and_grade.GradedSampler.ask, []

    def fail_on_the_third(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ask(*arguments, **options)

    monkeypatch.setattr(sample_and_grade.GradedSampler, "ask", fail_on_the_third)
    with pytest.raises(KeyboardInterrupt):
        sample_solutions(config, policy, problems, given, broken)
    assert not (broken.out / "examples.jsonl").exists()
    sample_solutions(config, policy, problems, given, broken)
    assert len(calls) == 3 + 1
    for name in ("solutions.parquet", "examples.jsonl"):
        assert (broken.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_fine_tuning_takes_given_and_sampled_examples_together(
    problems: Path, given: Path, policy: Path, says: Callable[..., None], tmp_path: Path
) -> None:
    says(cot=[r"So it is \boxed{2}"])
    workspace = Workspace.at(tmp_path / "space")
    sample_solutions(CONFIG, policy, problems, given, workspace)
    config = SFTConfig(batch_tokens=128, context_tokens=128, steps=1, precision="float32")
    summary = finetune(config, policy, [given, workspace.out], Workspace.at(tmp_path / "sft"))
    assert summary["examples_cot"] == 2
