"""Stage `evaluate`: greedy accuracy, Pass@K and Maj@K on held-out questions (paper Figure 7).

Departures and choices:
1. Pass@K is the unbiased estimate from all samples of a question. Maj@K is its counterpart: the probability that a majority vote among K
   of the samples is correct, averaged over all choices of K. The paper states neither estimator;
2. votes are grouped by meaning, not spelling. Ties are broken at random. A completion without an answer does not vote;
3. a completion that was truncated does not vote;
4. every score is reported twice: with the strict reading, where only a boxed answer counts, and with the lenient one (`lenient_answer`),
   which also reads completions without a box. Published scores of one model differ by 20 points between two such readings, so they are
   never mixed.

`models/evaluate/sample_and_grade.py` defines the answer of a completion, and which completions are wrong without being graded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.files import atomic_path, write_json
from mathquarry.data.grade.checker import Checker
from mathquarry.data.grade.estimates import pass_at_k
from mathquarry.data.problems.problem import Problem, read_problems
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.store.workspace import Bar, Workspace
from mathquarry.models.evaluate.config import EvaluateConfig
from mathquarry.models.evaluate.question_chunks import ask_in_chunks
from mathquarry.models.evaluate.sample_and_grade import TOO_LONG, GradedSampler
from mathquarry.models.rollout.finished import warn_if_few_finish

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("gold", pa.string()),
        ("format", pa.string()),  # cot, pot or tool
        ("kind", pa.string()),  # greedy or sample
        ("sample", pa.int32()),
        ("text", pa.string()),
        # Programs that were run, in order, with their output (value or error included) and the error alone.
        ("calls", pa.list_(pa.struct([("program", pa.string()), ("output", pa.string()), ("error", pa.string())]))),
        ("extracted", pa.string()),
        ("correct", pa.bool_()),
        ("reason", pa.string()),
        # The same with the lenient reading. It differs only if a completion has no box.
        ("lenient_extracted", pa.string()),
        ("lenient_correct", pa.bool_()),
        ("lenient_reason", pa.string()),
        ("finished", pa.bool_()),
        ("tokens", pa.int32()),
    ]
)

READINGS = ("", "lenient_")
"""Prefixes of columns and scores: the strict reading and the lenient one."""

Vote = tuple[int, bool]
"""How many samples gave an answer, and whether it is correct."""


def evaluate(config: EvaluateConfig, policy: Path, problems: Path, workspace: Workspace) -> dict[str, float | int]:
    """Answer the first `config.questions` questions of `problems/test.jsonl`, once greedily and `config.k` times at `config.temperature`,
    in each of `config.formats`.

    Writes `answers.parquet` (one row per completion, see `SCHEMA`) and `scores.json`. Questions are processed in chunks. Finished chunks
    are kept in `workspace.scratch`, and an interrupted run continues after them. A question that does not fit the context counts as wrong.

    Returns `questions`, `too_long`, `greedy`, `greedy_se`, `pass@k` and `maj@k` with their `_se` for each k of `config.k_values` up to
    `config.k`, the same scores with the lenient reading (`lenient_greedy`), `finished` (share of completions that were not truncated) and
    `mean_tokens`. For other formats, the names start with the format (`tool_greedy`, `tool_lenient_greedy`). Scores are shares from 0 to
    1; `_se` is one standard error over questions. Raises `MathQuarryError` if the policy or the problems cannot be read, or if programs
    must be run and there is no sandbox.
    """
    chosen = read_problems(problems / "test.jsonl")[: config.questions]
    tables = ask_in_chunks(policy, config, chosen, config.k + 1, SCHEMA, partial(_answer, config), workspace, "evaluate")
    scores: dict[str, float | int] = {}
    with Checker(config.grade) as checker:
        for format, answers in tables.items():
            prefix = "" if format == config.formats[0] else f"{format}_"
            scores |= {f"{prefix}{name}": value for name, value in score(answers, config.k, config.k_values, checker).items()}
            warn_if_few_finish(f"evaluate, {format}", float(scores[f"{prefix}finished"]), config.rollout.max_tokens)
    with atomic_path(workspace.out / "answers.parquet") as temporary:
        pq.write_table(pa.concat_tables(tables.values()), temporary)
    write_json(workspace.out / "scores.json", scores)
    workspace.metrics.rewind(-1)
    workspace.metrics.log(0, **scores)
    return scores


def score(answers: pa.Table, k: int, k_values: Sequence[int], checker: Checker) -> dict[str, float | int]:
    """Return one format's part of the summary of `evaluate`, from its table of answers with `k` samples per question."""
    reasons = answers["reason"].to_pylist()[:: k + 1]
    scores: dict[str, float | int] = {"questions": len(reasons), "too_long": reasons.count(TOO_LONG)}
    for reading in READINGS:
        greedy: list[bool] = []
        right: list[int] = []
        votes: list[tuple[Vote, ...]] = []
        for first, *samples in _by_question(answers, k + 1, reading):
            greedy.append(first["correct"])
            right.append(sum(row["correct"] for row in samples))
            votes.append(count_votes([(row["extracted"] if row["finished"] else None, row["correct"]) for row in samples], checker.same))
        _add(scores, f"{reading}greedy", greedy)
        for size in scored_sizes(k, k_values):
            _add(scores, f"{reading}pass@{size}", [pass_at_k(k, count, size) for count in right])
            _add(scores, f"{reading}maj@{size}", [maj_at_k(k, vote, size) for vote in votes])
    scores["finished"] = round(float(np.mean(answers["finished"].to_numpy())), 6)
    scores["mean_tokens"] = round(float(np.mean(answers["tokens"].to_numpy())), 3)
    return scores


@lru_cache(maxsize=100_000)
def maj_at_k(n: int, votes: tuple[Vote, ...], k: int) -> float:
    """Probability that the majority among k samples is correct, drawn without replacement from n: the mean over all C(n, k) choices.

    `votes` are the answers that were given; the other samples do not vote. The most frequent answer wins, and ties are broken at random.
    Without any vote the result is wrong. Exact, by counting choices.
    """
    total = 0.0
    for place, (size, correct) in enumerate(votes):
        if not correct:
            continue
        others = [other for index, (other, _) in enumerate(votes) if index != place]
        silent = n - size - sum(others)
        for top in range(1, min(size, k) + 1):
            rest = _choices(others, silent, k - top, top)
            # `rest[t]`: ways to choose the others so that t of them tie with this answer and none beats it.
            total += math.comb(size, top) * sum(ways / (tied + 1) for tied, ways in enumerate(rest))
    return min(1.0, total / math.comb(n, k))


def _choices(groups: list[int], silent: int, draws: int, top: int) -> np.ndarray:
    """Count the ways to draw `draws` samples from groups and `silent` others, at most `top` per group, by the number of groups at `top`."""
    ways = np.zeros((draws + 1, draws // top + 1))  # (drawn, groups at `top`)
    ways[0, 0] = 1.0
    for size in groups:
        grown = ways.copy()  # none drawn from this group
        for taken in range(1, min(size, top, draws) + 1):
            source = ways[: draws + 1 - taken] * math.comb(size, taken)
            if taken == top:
                grown[taken:, 1:] += source[:, :-1]
            else:
                grown[taken:] += source
        ways = grown
    drawn = np.array([math.comb(silent, draws - voted) for voted in range(draws + 1)], dtype=np.float64)
    return drawn @ ways


def count_votes(answers: Sequence[tuple[str | None, bool]], same: Callable[[str, str], bool]) -> tuple[Vote, ...]:
    """Group (answer, correct) samples by meaning: each answer joins the first group whose first answer is the `same`.

    A group is correct if its first answer is. `None` does not vote. The result is sorted.
    """
    groups: list[tuple[str, bool]] = []
    sizes: list[int] = []
    known: dict[str, int] = {}
    for answer, correct in answers:
        if answer is None:
            continue
        if answer not in known:
            found = next((place for place, (other, _) in enumerate(groups) if same(answer, other)), len(groups))
            if found == len(groups):
                groups.append((answer, correct))
                sizes.append(0)
            known[answer] = found
        sizes[known[answer]] += 1
    return tuple(sorted((size, correct) for size, (_, correct) in zip(sizes, groups, strict=True)))


def scored_sizes(k: int, wanted: Sequence[int]) -> list[int]:
    """Return the values of K to score with `k` samples per question: those of `wanted` below `k`, and `k` itself."""
    return sorted({k, *(size for size in wanted if size < k)})


def _answer(
    config: EvaluateConfig, sampler_and_grader: GradedSampler, format: SolutionFormat, questions: list[Problem], bar: Bar
) -> pa.Table:
    """Return the rows of one chunk in one format: for each question the greedy answer, then the samples in order."""
    # A question's seed does not depend on the other questions, so two policies are compared on the same draws.
    seeds = [_seed(config.seed, problem.id) for problem in questions]
    greedy = sampler_and_grader.ask(questions, format, n=1, temperature=0.0, seeds=seeds, progress=bar)
    sampled = sampler_and_grader.ask(questions, format, n=config.k, temperature=config.temperature, seeds=seeds, progress=bar)
    answers = [answer for first, rest in zip(greedy, sampled, strict=True) for answer in (*first, *rest)]
    asked = [problem for problem in questions for _ in range(config.k + 1)]
    lenient = sampler_and_grader.read_leniently(answers, asked, format)
    rows = [
        {
            "problem_id": problem.id,
            "question": problem.question,
            "gold": problem.answer,
            "format": format,
            "kind": "sample" if place % (config.k + 1) else "greedy",
            "sample": max(0, place % (config.k + 1) - 1),
            "text": answer.text,
            "calls": [{"program": call.program, "output": call.result.text, "error": call.result.error} for call in answer.calls],
            "extracted": answer.extracted,
            "correct": answer.correct,
            "reason": answer.reason,
            "lenient_extracted": reading.extracted,
            "lenient_correct": reading.correct,
            "lenient_reason": reading.reason,
            "finished": answer.finished,
            "tokens": answer.tokens,
        }
        for place, (problem, answer, reading) in enumerate(zip(asked, answers, lenient, strict=True))
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def _by_question(answers: pa.Table, rows: int, reading: str) -> Iterator[list[dict]]:
    """Yield the rows of each question, in order: `extracted` and `correct` (with this reading), and `finished`."""
    names = ["extracted", "correct", "finished"]
    columns = answers.select([f"{reading}extracted", f"{reading}correct", "finished"]).rename_columns(names)
    for start in range(0, len(columns), rows):
        yield columns.slice(start, rows).to_pylist()


def _add(scores: dict[str, float | int], name: str, values: Sequence[float]) -> None:
    """Add the mean over questions and its standard error: the binomial sqrt(p (1 - p) / questions) if values are 0 or 1."""
    sample = np.asarray(values, dtype=np.float64)
    scores[name] = round(float(sample.mean()), 6)
    scores[f"{name}_se"] = round(float(sample.std() / math.sqrt(len(sample))), 6)


def _seed(seed: int, problem_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{problem_id}".encode(), digest_size=8).digest(), "big")
