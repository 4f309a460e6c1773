"""Stage `evaluate`: greedy accuracy, Pass@K and Maj@K on held-out questions (paper Figure 7).

Departures and choices:
1. Pass@K is the unbiased estimate from all samples of a question, and Maj@K its counterpart: the chance that a majority vote among K of
   the samples is right, over all choices of K. The paper states neither estimator;
2. votes go by meaning, not spelling; a tie is broken at random; an output without an answer has no vote;
3. an output that was cut before it ended has no vote.

What an output's answer is, and when it is wrong without being graded, `models/examine.py` says.
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

from data.config import SolutionFormat
from data.files import atomic_path, write_json
from data.grade.checker import Checker
from data.grade.estimates import pass_at_k
from data.problems.problem import Problem, read_problems
from data.workspace import Bar, Workspace
from models.config import EvaluateConfig
from models.examine import TOO_LONG, Examiner
from models.question_chunks import ask_in_chunks

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("gold", pa.string()),
        ("format", pa.string()),  # cot, pot or tool
        ("kind", pa.string()),  # greedy or sample
        ("sample", pa.int32()),
        ("text", pa.string()),
        # Programs that were run, in order: each with what it printed (value or error included), and the error alone.
        ("calls", pa.list_(pa.struct([("program", pa.string()), ("output", pa.string()), ("error", pa.string())]))),
        ("extracted", pa.string()),
        ("correct", pa.bool_()),
        ("reason", pa.string()),
        ("finished", pa.bool_()),
        ("tokens", pa.int32()),
    ]
)

Vote = tuple[int, bool]
"""How many samples gave an answer, and whether it is right."""


def evaluate(config: EvaluateConfig, policy: Path, problems: Path, space: Workspace) -> dict[str, float | int]:
    """Answer the first `config.questions` questions of `problems/test.jsonl` once greedily and `config.k` times at `config.temperature`,
    in each of `config.formats`.

    Writes `answers.parquet` (one row an output, see `SCHEMA`) and `scores.json`. Questions come in chunks; finished ones are kept in
    `space.scratch`, and an interrupted run goes on after them. A question that does not fit the context counts as answered wrongly.

    Returns `questions`, `too_long`, `greedy`, `greedy_se`, `pass@k` and `maj@k` with their `_se` for the k of `config.k_values` up to
    `config.k`, `finished` (share of outputs that ended by themselves) and `mean_tokens`; of each further format the same with its name in
    front (`tool_greedy`). Scores are shares from 0 to 1; `_se` is one standard error over questions. Raises `MathQuarryError` when the
    policy or the problems cannot be read, or when programs are to be run and there is no sandbox.
    """
    chosen = read_problems(problems / "test.jsonl")[: config.questions]
    tables = ask_in_chunks(policy, config, chosen, config.k + 1, SCHEMA, partial(_answer, config), space, "evaluate")
    scores: dict[str, float | int] = {}
    with Checker(config.grade) as checker:
        for format, answers in tables.items():
            prefix = "" if format == config.formats[0] else f"{format}_"
            scores |= {f"{prefix}{name}": value for name, value in score(answers, config.k, config.k_values, checker).items()}
    with atomic_path(space.out / "answers.parquet") as temporary:
        pq.write_table(pa.concat_tables(tables.values()), temporary)
    write_json(space.out / "scores.json", scores)
    space.metrics.rewind(-1)
    space.metrics.log(0, **scores)
    return scores


def score(answers: pa.Table, k: int, k_values: Sequence[int], checker: Checker) -> dict[str, float | int]:
    """The summary of one format that `evaluate` returns, from its table of answers with `k` samples a question."""
    greedy: list[bool] = []
    right: list[int] = []
    votes: list[tuple[Vote, ...]] = []
    too_long = 0
    for rows in _by_question(answers, k + 1):
        first, samples = rows[0], rows[1:]
        greedy.append(first["correct"])
        right.append(sum(row["correct"] for row in samples))
        votes.append(count_votes([(row["extracted"] if row["finished"] else None, row["correct"]) for row in samples], checker.same))
        too_long += first["reason"] == TOO_LONG
    scores: dict[str, float | int] = {"questions": len(greedy), "too_long": too_long}
    _add(scores, "greedy", greedy)
    for size in scored_sizes(k, k_values):
        _add(scores, f"pass@{size}", [pass_at_k(k, count, size) for count in right])
        _add(scores, f"maj@{size}", [maj_at_k(k, vote, size) for vote in votes])
    scores["finished"] = round(float(np.mean(answers["finished"].to_numpy())), 6)
    scores["mean_tokens"] = round(float(np.mean(answers["tokens"].to_numpy())), 3)
    return scores


@lru_cache(maxsize=100_000)
def maj_at_k(n: int, votes: tuple[Vote, ...], k: int) -> float:
    """Chance that the majority among k samples is right, drawn without replacement from n; the mean over all C(n, k) choices.

    `votes` are the answers that were given; the remaining samples have no vote. The most frequent answer of a choice wins, a tie is broken
    at random, and without any vote the result is wrong. Exact, by counting choices.
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
    """Ways to draw `draws` samples from groups and `silent` others with at most `top` from a group, by the number of groups at `top`."""
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

    A group is right if its first answer is. `None` has no vote. The result is sorted.
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
    """The values of K to score with `k` samples a question: those of `wanted` below `k`, and `k` itself."""
    return sorted({k, *(size for size in wanted if size < k)})


def _answer(config: EvaluateConfig, examiner: Examiner, format: SolutionFormat, questions: list[Problem], bar: Bar) -> pa.Table:
    """Rows of one chunk in one format: for each question the greedy answer, then the samples in order."""
    # A question keeps its seed whatever else is asked, so two policies are compared on the same draws.
    seeds = [_seed(config.seed, problem.id) for problem in questions]
    greedy = examiner.ask(questions, format, n=1, temperature=0.0, seeds=seeds, progress=bar)
    sampled = examiner.ask(questions, format, n=config.k, temperature=config.temperature, seeds=seeds, progress=bar)
    rows = [
        {
            "problem_id": problem.id,
            "question": problem.question,
            "gold": problem.answer,
            "format": format,
            "kind": "sample" if place else "greedy",
            "sample": max(0, place - 1),
            "text": answer.text,
            "calls": [{"program": call.program, "output": call.result.text, "error": call.result.error} for call in answer.calls],
            "extracted": answer.extracted,
            "correct": answer.correct,
            "reason": answer.reason,
            "finished": answer.finished,
            "tokens": answer.tokens,
        }
        for problem, first, rest in zip(questions, greedy, sampled, strict=True)
        for place, answer in enumerate([*first, *rest])
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def _by_question(answers: pa.Table, rows: int) -> Iterator[list[dict]]:
    """The rows of each question, in order."""
    columns = answers.select(["extracted", "correct", "reason", "finished"])
    for start in range(0, len(columns), rows):
        yield columns.slice(start, rows).to_pylist()


def _add(scores: dict[str, float | int], name: str, values: Sequence[float]) -> None:
    """Mean over questions and its standard error, the binomial sqrt(p (1 - p) / questions) where values are 0 or 1."""
    sample = np.asarray(values, dtype=np.float64)
    scores[name] = round(float(sample.mean()), 6)
    scores[f"{name}_se"] = round(float(sample.std() / math.sqrt(len(sample))), 6)


def _seed(seed: int, problem_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{problem_id}".encode(), digest_size=8).digest(), "big")
