"""Stage `rejection`: rejection sampling. A policy writes solutions, and the right ones become further fine-tuning examples.

The paper's fine-tuning data has solutions in three formats (section 3.1) and does not say how they were found; this is ToRA's way (arXiv
2309.17452, sections 2.2 and 2.3): sample, keep what ends in the right answer without a tool's error, at most a few a problem. Our choices:
1. of a problem's right solutions the first in the order of sampling are kept, which is a random choice;
2. two solutions are the same when what the model wrote differs in nothing but white space; one that a problem's given examples already
   have is a duplicate too;
3. a tool-integrated solution that ran no program is dropped: it would teach the prompt for tools to do without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from data.config import SolutionFormat
from data.errors import MathQuarryError
from data.files import atomic_path
from data.problems.build import TRAIN, shuffled_head
from data.problems.problem import Problem, read_problems
from data.solutions.curate import EXAMPLES
from data.solutions.example import Example, Segment, read_examples, write_examples
from data.workspace import Bar, Workspace
from models.config import RejectionConfig
from models.examine import TOO_LONG, Answer, Examiner
from models.question_chunks import ask_in_chunks
from models.seeds import derive_seed

SOLUTIONS = "solutions.parquet"
DropReason = Literal[
    "question-too-long", "cut", "no-program", "program-failed", "no-answer", "wrong-answer", "duplicate", "enough-for-the-question"
]
"""In the order in which they are looked for: a solution has the first that applies."""

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("gold", pa.string()),
        ("language", pa.string()),
        ("format", pa.string()),
        ("sample", pa.int32()),
        # What the model wrote and, not `trained`, what programs printed; joined they are the solution.
        ("segments", pa.list_(pa.struct([("text", pa.string()), ("trained", pa.bool_())]))),
        ("extracted", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),  # of a dropped one: a `DropReason`
        ("verdict", pa.string()),  # what decided whether the answer is right
        ("tokens", pa.int32()),
    ]
)


def sample_solutions(config: RejectionConfig, policy: Path, problems: Path, examples: Path, space: Workspace) -> dict[str, int]:
    """Sample solutions of `problems/train.jsonl` from the checkpoint `policy` and keep the right ones.

    Writes `solutions.parquet` (every sampled solution, see `SCHEMA`) and `examples.jsonl` (`Example` records of the kept ones, those of
    `examples/examples.jsonl` not among them). Questions come in chunks; finished ones are kept in `space.scratch`. What is sampled for a
    question depends on the seed, the policy and the problem alone.

    Returns counts: questions, those with a kept solution (`solved`), solutions, kept ones by format, dropped ones by reason. Raises
    `MathQuarryError` when an input cannot be read, when there is no sandbox for programs, and when nothing was kept.
    """
    chosen = shuffled_head(read_problems(problems / TRAIN), config.questions, config.seed)
    known = _known(examples)

    def sample(examiner: Examiner, format: SolutionFormat, questions: list[Problem], bar: Bar) -> pa.Table:
        answers = examiner.ask(
            questions,
            format,
            n=config.outputs_per_question,
            temperature=config.rollout.temperature,
            seeds=[derive_seed(config.seed, "rejection", format, problem.id) for problem in questions],
            progress=bar,
        )
        rows = [
            row
            for problem, group in zip(questions, answers, strict=True)
            for row in _judged(problem, format, group, config.kept_per_question, known.get((problem.id, format), set()))
        ]
        return pa.Table.from_pylist(rows, SCHEMA)

    tables = ask_in_chunks(policy, config, chosen, config.outputs_per_question, SCHEMA, sample, space, "rejection")
    table = pa.concat_tables(tables.values())
    summary = _summary(len(chosen), table, config.formats)
    if not summary["kept"]:
        found = ", ".join(f"{reason} {summary[f'dropped_{reason}']}" for reason in get_args(DropReason) if summary[f"dropped_{reason}"])
        raise MathQuarryError(
            f"rejection: none of {len(table)} sampled solutions was kept ({found}). Sample from a better policy, more often "
            "(rejection.outputs_per_question) or longer (rejection.rollout.max_tokens), or switch it off (rejection.enabled)."
        )
    with atomic_path(space.out / SOLUTIONS) as temporary:
        pq.write_table(table, temporary)
    write_examples(space.out / EXAMPLES, _kept(table))
    return summary


def drop_reason(answer: Answer, format: SolutionFormat) -> DropReason | None:
    """Why a solution is of no use whatever others there are; `None` for one that is right."""
    if answer.reason == TOO_LONG:
        return "question-too-long"
    if not answer.finished:
        return "cut"
    if format != "cot" and not answer.calls:
        return "no-program"
    if any(call.result.error for call in answer.calls):
        return "program-failed"
    if answer.extracted is None:
        return "no-answer"
    return None if answer.correct else "wrong-answer"


def _judged(problem: Problem, format: SolutionFormat, answers: Sequence[Answer], most: int, known: set[str]) -> Iterator[dict[str, Any]]:
    """A row for each of a problem's solutions in one format, at most `most` of them kept and none that is `known`."""
    seen, kept = set(known), 0
    for sample, answer in enumerate(answers):
        reason = drop_reason(answer, format)
        if reason is None:
            words = _words(answer.segments)
            if words in seen:
                reason = "duplicate"
            elif kept == most:
                reason = "enough-for-the-question"
            else:
                kept += 1
            seen.add(words)
        yield {
            "problem_id": problem.id,
            "question": problem.question,
            "gold": problem.answer,
            "language": problem.language,
            "format": format,
            "sample": sample,
            "segments": [asdict(segment) for segment in answer.segments],
            "extracted": answer.extracted,
            "kept": reason is None,
            "reason": reason,
            "verdict": answer.reason,
            "tokens": answer.tokens,
        }


def _words(segments: Sequence[Segment]) -> str:
    """What makes two solutions the same: the words that the model wrote."""
    return " ".join("".join(segment.text for segment in segments if segment.trained).split())


def _known(examples: Path) -> dict[tuple[str, SolutionFormat], set[str]]:
    """The words of the given examples, by problem and format."""
    known: dict[tuple[str, SolutionFormat], set[str]] = {}
    for example in read_examples(examples / EXAMPLES):
        known.setdefault((example.problem_id, example.format), set()).add(_words(example.segments))
    return known


def _kept(table: pa.Table) -> Iterator[Example]:
    for row in table.filter(table["kept"]).to_pylist():
        segments = [Segment(**segment) for segment in row["segments"]]
        yield Example(row["problem_id"], row["question"], row["format"], row["language"], segments, row["gold"])


def _summary(questions: int, table: pa.Table, formats: Sequence[SolutionFormat]) -> dict[str, int]:
    kept = table.filter(table["kept"])
    by_format = Counter(kept["format"].to_pylist())
    reasons = Counter(table["reason"].to_pylist())
    return {
        "questions": questions,
        "solved": len(kept["problem_id"].unique()),
        "solutions": len(table),
        "kept": len(kept),
        **{f"kept_{format}": by_format[format] for format in formats},
        "dropped": len(table) - len(kept),
        **{f"dropped_{reason}": reasons[reason] for reason in get_args(DropReason)},
    }
