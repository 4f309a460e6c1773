"""Pass@K and Maj@K against tables worked out by hand and brute force; the complete stage with a tiny model."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mathquarry.data.grade.checker import Checker
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.grade.estimates import pass_at_k
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.sandbox import make_sandbox
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.evaluate import evaluate as stage
from mathquarry.models.evaluate import sample_and_grade
from mathquarry.models.evaluate.config import EvaluateConfig
from mathquarry.models.evaluate.evaluate import SCHEMA, count_votes, evaluate, maj_at_k, score, scored_sizes
from mathquarry.models.policy.checkpoint import new_policy, save
from mathquarry.models.policy.config import ScratchModel
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.tokenizer import train_tokenizer
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig
from mathquarry.models.rollout.engine import Completion


def test_pass_at_k_hand_worked() -> None:
    # 4 samples, 1 right: of the 6 pairs, 3 hold it.
    assert pass_at_k(4, 1, 1) == pytest.approx(1 / 4)
    assert pass_at_k(4, 1, 2) == pytest.approx(3 / 6)
    assert pass_at_k(4, 1, 4) == 1.0
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(4, 3, 2) == 1.0


@pytest.mark.parametrize(("n", "c", "k"), [(6, 2, 3), (7, 1, 2), (8, 5, 4), (5, 5, 1)])
def test_pass_at_k_is_the_mean_over_all_choices(n: int, c: int, k: int) -> None:
    samples = [True] * c + [False] * (n - c)
    choices = list(itertools.combinations(samples, k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_maj_at_k_hand_worked() -> None:
    # 3 samples: twice the right answer, once a wrong one.
    votes = ((1, False), (2, True))
    assert maj_at_k(3, votes, 1) == pytest.approx(2 / 3)
    # Pairs: right+right wins, the two mixed ones are ties: (1 + 1/2 + 1/2) / 3.
    assert maj_at_k(3, votes, 2) == pytest.approx(2 / 3)
    assert maj_at_k(3, votes, 3) == 1.0
    # The majority is wrong.
    assert maj_at_k(3, ((1, True), (2, False)), 3) == 0.0
    # One vote and two abstentions: the only answer that was given wins.
    assert maj_at_k(3, ((1, True),), 3) == 1.0
    assert maj_at_k(3, ((1, True),), 1) == pytest.approx(1 / 3)
    assert maj_at_k(3, (), 2) == 0.0


def brute_force_majority(n: int, votes: tuple[tuple[int, bool], ...], k: int) -> float:
    labels = [group for group, (size, _) in enumerate(votes) for _ in range(size)]
    labels += [-1] * (n - len(labels))
    results = []
    for choice in itertools.combinations(labels, k):
        counts = {label: choice.count(label) for label in choice if label >= 0}
        best = [label for label, count in counts.items() if count == max(counts.values())]
        results.append(sum(votes[label][1] for label in best) / len(best) if best else 0.0)
    return sum(results) / len(results)


def test_maj_at_k_is_the_mean_over_all_choices() -> None:
    chooser = random.Random(0)
    for _ in range(60):
        n = chooser.randint(1, 9)
        votes, left = [], n
        while left and chooser.random() < 0.85:
            size = chooser.randint(1, left)
            votes.append((size, chooser.random() < 0.4))
            left -= size
        k = chooser.randint(1, n)
        assert maj_at_k(n, tuple(votes), k) == pytest.approx(brute_force_majority(n, tuple(votes), k))


def test_maj_at_k_of_64_samples_stays_a_probability() -> None:
    votes = ((20, True), (18, False), *[(1, False)] * 20)
    values = [maj_at_k(64, votes, k) for k in EvaluateConfig().k_values]
    assert all(0.0 <= value <= 1.0 for value in values)
    assert values[0] == pytest.approx(20 / 64)
    assert values[-1] == 1.0


def test_votes_go_by_meaning_and_an_abstention_counts_for_nobody() -> None:
    answers = [("1/2", True), ("0.5", True), (None, False), ("3", False), ("0.50", True)]
    meaning = {"1/2": 0.5, "0.5": 0.5, "0.50": 0.5, "3": 3.0}
    assert count_votes(answers, lambda a, b: meaning[a] == meaning[b]) == ((1, False), (3, True))


def test_scores_and_their_standard_errors_by_hand() -> None:
    """Three questions with two samples each; the error of a mean is the spread over questions (ddof 0) divided by the square root of 3."""
    right = [[True, True, False], [False, True, True], [True, False, False]]  # greedy, sample, sample
    rows = [
        {"extracted": str(correct), "correct": correct, "lenient_extracted": "True", "lenient_correct": True}
        | {"reason": "", "finished": True, "tokens": 10, "format": "cot"}
        for question in right
        for correct in question
    ]
    with Checker(GradeConfig()) as checker:
        scores = score(pa.Table.from_pylist(rows, SCHEMA), 2, [1], checker)
    # Greedy: 1, 0, 1; mean 2/3, variance 2/9. Pass@1 and Maj@1: 1/2, 1, 0; variance 1/6. Pass@2: 1, 1, 0. Maj@2: 1/2 (a tie), 1, 0.
    expected = {
        "greedy": (2 / 3, (2 / 9 / 3) ** 0.5),
        "pass@1": (1 / 2, (1 / 6 / 3) ** 0.5),
        "pass@2": (2 / 3, (2 / 9 / 3) ** 0.5),
        "maj@1": (1 / 2, (1 / 6 / 3) ** 0.5),
        "maj@2": (1 / 2, (1 / 6 / 3) ** 0.5),
    }
    for name, (mean, error) in expected.items():
        assert scores[name] == pytest.approx(mean, abs=1e-6)
        assert scores[f"{name}_se"] == pytest.approx(error, abs=1e-6)
        assert (scores[f"lenient_{name}"], scores[f"lenient_{name}_se"]) == (1.0, 0.0), "its own columns count"
    assert (scores["questions"], scores["finished"], scores["mean_tokens"]) == (3, 1.0, 10.0)


def test_the_values_of_k_are_the_papers_up_to_the_number_of_samples_and_that_number() -> None:
    assert scored_sizes(64, EvaluateConfig().k_values) == [1, 4, 8, 16, 32, 64]
    assert scored_sizes(1, EvaluateConfig().k_values) == [1]
    assert scored_sizes(6, EvaluateConfig().k_values) == [1, 4, 6]
    assert scored_sizes(8, [2, 2]) == [2, 8]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    folder = tmp_path / "problems"
    folder.mkdir()
    texts = [f"Ann has {number} pens and buys {number} more. How many pens has she?" for number in range(1, 8)]
    texts[5] = "Very long. " * 400
    write_problems(folder / "test.jsonl", [Problem(f"p{place}", text, str(2 * place + 2)) for place, text in enumerate(texts)])
    return folder


@pytest.fixture
def policy(tmp_path: Path, problems: Path) -> Path:
    folder = tmp_path / "policy"
    tokenizer = train_tokenizer([(problems / "test.jsonl").read_text(), r"\boxed{1}"] * 4, 280)
    model = new_policy(ScratchModel(layers=1, hidden=16, heads=2, intermediate=16), tokenizer, seed=0)
    save(model, tokenizer, folder, "short")
    return folder


CONFIG = EvaluateConfig(k=3, k_values=[1, 2], rollout=RolloutConfig(max_tokens=12), grade=GradeConfig(workers=1))


def test_the_stage_writes_every_answer_and_its_scores(problems: Path, policy: Path, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "space")
    scores = evaluate(CONFIG, policy, problems, workspace)
    rows = pq.read_table(workspace.out / "answers.parquet").to_pylist()
    assert [(row["problem_id"], row["kind"], row["sample"]) for row in rows[:5]] == [
        ("p0", "greedy", 0),
        ("p0", "sample", 0),
        ("p0", "sample", 1),
        ("p0", "sample", 2),
        ("p1", "greedy", 0),
    ]
    assert len(rows) == 7 * 4
    assert scores["questions"] == 7
    assert json.loads((workspace.out / "scores.json").read_text()) == scores
    names = {"greedy", "pass@1", "pass@2", "pass@3", "maj@1", "maj@2", "maj@3"}
    names |= {f"lenient_{name}" for name in names}
    assert names | {f"{name}_se" for name in names} | {"questions", "too_long", "finished", "mean_tokens"} == set(scores)


def test_a_question_longer_than_the_context_is_counted_and_wrong(problems: Path, policy: Path, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "space")
    assert evaluate(CONFIG, policy, problems, workspace)["too_long"] == 1
    rows = [row for row in pq.read_table(workspace.out / "answers.parquet").to_pylist() if row["problem_id"] == "p5"]
    assert {(row["reason"], row["correct"], row["text"]) for row in rows} == {("question too long", False, "")}


def test_a_cut_answer_is_wrong_and_has_no_vote_even_if_it_holds_the_answer(
    problems: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = Prompter.load(policy).tokenizer
    boxed = tokenizer.encode(r"so \boxed{2}")

    class Cut:
        limit = None

        def __init__(self, ends: bool) -> None:
            self.ends = ends

        def generate(self, prompts, *, n, **options):  # type: ignore[no-untyped-def]
            tokens = [*boxed, tokenizer.eos_token_id] if self.ends else boxed
            return [[Completion(tokens, [0.0] * len(tokens), self.ends)] * n for _ in prompts]

        def close(self) -> None: ...

    for ends, expected in ((False, 0.0), (True, round(1 / 7, 6))):
        monkeypatch.setattr(sample_and_grade, "make_engine", lambda *_, ends=ends, **__: Cut(ends))
        caplog.clear()
        scores = evaluate(CONFIG, policy, problems, Workspace.at(tmp_path / f"space-{ends}"))
        assert ("evaluate, cot: only 0.0% of the completions ended within 12 tokens" in caplog.text) is not ends
        assert scores["greedy"] == scores["pass@3"] == scores["maj@3"] == expected
        assert scores["lenient_greedy"] == scores["lenient_maj@3"] == expected
        assert scores["finished"] == float(ends)


def test_answers_are_scored_strictly_and_leniently_side_by_side(
    problems: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Prompter.load(policy).tokenizer
    # The gold answers are 2 and 4: greedy boxes of 2, then three samples, of which one has a box.
    replies = [r"so \boxed{2}", "The answer is 2.", "The answer is 4.", r"The answer is 2, \boxed{7}"]

    class Scripted:
        limit = None

        def generate(self, prompts, *, n, **options):  # type: ignore[no-untyped-def]
            texts = replies[:1] if n == 1 else replies[1:]
            tokens = [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts]
            return [[Completion(found, [0.0] * len(found), True) for found in tokens] for _ in prompts]

        def close(self) -> None: ...

    monkeypatch.setattr(sample_and_grade, "make_engine", lambda *_, **__: Scripted())
    workspace = Workspace.at(tmp_path / "space")
    scores = evaluate(CONFIG.model_copy(update={"questions": 2}), policy, problems, workspace)
    assert (scores["greedy"], scores["lenient_greedy"]) == (0.5, 0.5)
    assert (scores["pass@1"], scores["lenient_pass@1"]) == (0.0, round(1 / 3, 6))
    assert (scores["pass@3"], scores["lenient_pass@3"]) == (0.0, 1.0)
    assert (scores["maj@3"], scores["lenient_maj@3"]) == (0.0, round(1 / 3, 6)), "three answers with a vote each"
    rows = pq.read_table(workspace.out / "answers.parquet").to_pylist()
    assert [(row["extracted"], row["lenient_extracted"]) for row in rows[:4]] == [("2", "2"), (None, "2"), (None, "4"), ("7", "7")]
    assert [(row["correct"], row["lenient_correct"]) for row in rows[:4]] == [(True, True), (False, True), (False, False), (False, False)]
    assert [row["reason"] for row in rows[1:3]] == ["no answer"] * 2
    assert [row["lenient_reason"] for row in rows[1:3]] == ["same text", "different numbers"]


def test_an_interrupted_run_ends_with_the_same_bytes(problems: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.models.evaluate.question_chunks.CHUNK_QUESTIONS", 2)
    whole, broken = Workspace.at(tmp_path / "whole"), Workspace.at(tmp_path / "broken")
    evaluate(CONFIG, policy, problems, whole)

    answer, calls = stage._answer, []

    def fail_on_the_third(*arguments):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(stage, "_answer", fail_on_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate(CONFIG, policy, problems, broken)
    assert not (broken.out / "answers.parquet").exists()
    evaluate(CONFIG, policy, problems, broken)
    assert len(calls) == 3 + 2  # 4 chunks: two before the interruption were kept
    for name in ("answers.parquet", "scores.json"):
        assert (broken.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_samples_of_a_question_do_not_change_with_the_number_of_questions(problems: Path, policy: Path, tmp_path: Path) -> None:
    all_of_them, few = Workspace.at(tmp_path / "all"), Workspace.at(tmp_path / "few")
    evaluate(CONFIG, policy, problems, all_of_them)
    evaluate(CONFIG.model_copy(update={"questions": 2}), policy, problems, few)
    first = pq.read_table(all_of_them.out / "answers.parquet").slice(0, 8)
    assert pq.read_table(few.out / "answers.parquet").to_pylist() == first.to_pylist()


def test_the_model_is_not_loaded_again_once_all_answers_are_there(
    problems: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.at(tmp_path / "space")
    scores = evaluate(CONFIG, policy, problems, workspace)
    monkeypatch.delattr(sample_and_grade, "make_engine")
    assert evaluate(CONFIG, policy, problems, workspace) == scores
    assert torch.is_grad_enabled()


def test_each_format_has_its_rows_and_its_scores(problems: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Prompter.load(policy).tokenizer
    replies = {
        "cot": r"so \boxed{2}",
        "pot": "```python\na=5+1\nprint(a)\n```",
        "tool": "```python\na=5+1\nprint(a)\n```\nhence \\boxed{4}",
    }

    class Scripted:
        """Writes the reply in the format that the prompt asks for, up to the stop string."""

        limit = None

        def generate(self, prompts, *, n, stop=None, **options):  # type: ignore[no-untyped-def]
            completions = []
            for prompt in prompts:
                text = tokenizer.decode(prompt)
                word = {"Answer:": "cot", "Program:": "pot", "Tool:": "tool"}
                reply = replies[next(format for mark, format in word.items() if mark in text)]
                if stop is not None:
                    program, rest = reply.split("hence", 1)
                    reply = "hence" + rest if "```output" in text else program
                    tokens = tokenizer.encode(reply)
                    stops = "```output" not in text
                    tokens = tokens if stops else [*tokens, tokenizer.eos_token_id]
                    completions.append([Completion(list(tokens), [0.0] * len(tokens), not stops, stops) for _ in range(n)])
                else:
                    tokens = [*tokenizer.encode(reply), tokenizer.eos_token_id]
                    completions.append([Completion(tokens, [0.0] * len(tokens), True)] * n)
            return completions

        def close(self) -> None: ...

    monkeypatch.setattr(sample_and_grade, "make_engine", lambda *_, **__: Scripted())
    tools = ToolsConfig(programs=ProgramsConfig(sandbox="arithmetic"))
    workspace = Workspace.at(tmp_path / "space")
    config = CONFIG.model_copy(
        update={"formats": ["cot", "pot", "tool"], "tools": tools, "questions": 3, "rollout": RolloutConfig(max_tokens=80)}
    )
    scores = evaluate(config, policy, problems, workspace)
    # The answers are 2, 4, 6: the reply in words is right once, and so are the program that prints 6 and the box of 4 after it.
    assert scores["greedy"] == scores["pot_greedy"] == scores["tool_greedy"] == scores["tool_maj@3"] == round(1 / 3, 6)
    assert all(scores[name] == scores[name.replace("lenient_", "")] for name in scores if "lenient_" in name), (
        "every completion has an answer"
    )
    rows = pq.read_table(workspace.out / "answers.parquet").to_pylist()
    assert len(rows) == 3 * 3 * 4
    assert {(row["format"], row["extracted"]) for row in rows} == {("cot", "2"), ("pot", "6"), ("tool", "4")}
    assert [(row["format"], row["problem_id"]) for row in rows if row["correct"] and row["kind"] == "greedy"] == [
        ("cot", "p0"),
        ("pot", "p2"),
        ("tool", "p1"),
    ]
    assert all("```output\n6" in row["text"] for row in rows if row["format"] == "tool")
    run = {"program": "a=5+1\nprint(a)\n", "output": "6", "error": None}
    assert all(row["calls"] == ([] if row["format"] == "cot" else [run]) for row in rows)


def test_a_program_that_fails_or_is_missing_is_wrong_with_that_reason() -> None:
    with make_sandbox(ProgramsConfig(sandbox="arithmetic")) as sandbox:
        assert sample_and_grade.run_program(sandbox, "```python\na=1/0\nprint(a)\n```").fault.startswith("the program failed: ")
        silent = sample_and_grade.run_program(sandbox, "```python\na=1\n```")
        assert (silent.answer, silent.fault) == (None, "the program failed: it prints nothing")
        missing = sample_and_grade.run_program(sandbox, "It is 5.")
        assert (missing.answer, missing.fault, missing.calls) == (None, "no program", [])
