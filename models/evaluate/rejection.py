"""Stage `rejection`: rejection sampling. The policy samples solutions, and the correct ones become more fine-tuning examples.

The paper's fine-tuning data has solutions in three formats (section 3.1); the paper does not say how they were made. This stage follows
ToRA (arXiv 2309.17452, sections 2.2 and 2.3): sample, keep solutions that end in the correct answer without a tool error, and only a few
per problem. Our choices:
1. the first correct solutions in the order of sampling are kept, which is a random choice;
2. two solutions are duplicates if the text that the model wrote differs only in white space. A duplicate of one of the problem's given
   examples is dropped too;
3. a tool-integrated solution that ran no program is dropped, since it would teach the model not to use tools.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.data.problems.build import TRAIN, shuffled_head
from mathquarry.data.problems.problem import Problem, read_problems
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.curate import EXAMPLES
from mathquarry.data.solutions.example import Example, Segment, read_examples, write_examples
from mathquarry.data.store.workspace import Bar, Workspace
from mathquarry.models.evaluate.config import RejectionConfig
from mathquarry.models.evaluate.question_chunks import ask_in_chunks
from mathquarry.models.evaluate.sample_and_grade import TOO_LONG, Answer, GradedSampler
from mathquarry.models.rollout.finished import warn_if_few_finish
from mathquarry.models.rollout.seeds import derive_seed

SOLUTIONS = "solutions.parquet"
DropReason = Literal[
    "question-too-long", "cut", "no-program", "program-failed", "no-answer", "wrong-answer", "duplicate", "enough-for-the-question"
]
"""In the order in which they are checked: a solution gets the first one that applies."""

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("gold", pa.string()),
        ("language", pa.string()),
        ("format", pa.string()),
        ("sample", pa.int32()),
        # Text of the model and, not `trained`, text printed by programs. Joined, they are the solution.
        ("segments", pa.list_(pa.struct([("text", pa.string()), ("trained", pa.bool_())]))),
        ("extracted", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),  # why it was dropped: a `DropReason`
        ("verdict", pa.string()),  # why the answer is correct or not
        ("tokens", pa.int32()),
    ]
)


def sample_solutions(config: RejectionConfig, policy: Path, problems: Path, examples: Path, workspace: Workspace) -> dict[str, int]:
    """Sample solutions of `problems/train.jsonl` from the checkpoint `policy` and keep the correct ones.

    Writes `solutions.parquet` (every sampled solution, see `SCHEMA`) and `examples.jsonl` (`Example` records of the kept ones, without
    those of `examples/examples.jsonl`). Questions are processed in chunks; finished ones are kept in `workspace.scratch`. The samples of a
    question depend on the seed, the policy and the problem alone.

    Returns counts: questions, questions with a kept solution (`solved`), solutions, kept ones by format, dropped ones by reason. Raises
    `MathQuarryError` if an input cannot be read, if there is no sandbox for programs, or if nothing was kept.
    """
    chosen = shuffled_head(read_problems(problems / TRAIN), config.questions, config.seed)
    known = _known(examples)

    tables = ask_in_chunks(policy, config, chosen, config.group_size, SCHEMA, partial(_sample, config, known), workspace, "rejection")
    table = pa.concat_tables(tables.values())
    summary = _summary(len(chosen), table, config.formats)
    warn_if_few_finish("rejection", 1 - summary["dropped_cut"] / max(1, len(table)), config.rollout.max_tokens)
    if not summary["kept"]:
        found = ", ".join(f"{reason} {summary[f'dropped_{reason}']}" for reason in get_args(DropReason) if summary[f"dropped_{reason}"])
        raise MathQuarryError(
            f"rejection: none of {len(table)} sampled solutions was kept ({found}). Sample from a better policy, sample more "
            "(rejection.group_size) or longer solutions (rejection.rollout.max_tokens), or turn it off (rejection.enabled)."
        )
    with atomic_path(workspace.out / SOLUTIONS) as temporary:
        pq.write_table(table, temporary)
    write_examples(workspace.out / EXAMPLES, _kept(table))
    return summary


def _sample(
    config: RejectionConfig,
    known: dict[tuple[str, SolutionFormat], set[str]],
    sampler_and_grader: GradedSampler,
    format: SolutionFormat,
    questions: list[Problem],
    bar: Bar,
) -> pa.Table:
    """Return the rows of one chunk in one format. `known` holds the text of the given examples, by problem and format."""
    answers = sampler_and_grader.ask(
        questions,
        format,
        n=config.group_size,
        temperature=config.rollout.temperature,
        seeds=[derive_seed(config.seed, "rejection", format, problem.id) for problem in questions],
        progress=bar,
    )
    rows = [
        row
        for problem, group in zip(questions, answers, strict=True)
        for row in _rows(problem, format, group, config.kept_per_question, known.get((problem.id, format), set()))
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def drop_reason(answer: Answer, format: SolutionFormat) -> DropReason | None:
    """Why a solution cannot be kept, whatever the other solutions are; `None` for a correct one."""
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


def _rows(problem: Problem, format: SolutionFormat, answers: Sequence[Answer], most: int, known: set[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each of a problem's solutions in one format. Keeps at most `most` of them, and none that is in `known`."""
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
    """The text that the model wrote, with normalised white space. Solutions with equal text are duplicates."""
    return " ".join("".join(segment.text for segment in segments if segment.trained).split())


def _known(examples: Path) -> dict[tuple[str, SolutionFormat], set[str]]:
    """Return the text of the given examples, by problem and format."""
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
