"""The inputs of reward functions, and checks of what functions and servers return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem

if TYPE_CHECKING:  # a pipeline that looks up an artifact need not wait for the library
    from transformers import PreTrainedTokenizerBase

    from mathquarry.models.rollout.tools import Call

LARGEST = 1e30
"""Largest absolute reward: advantages are computed in float32."""

COLUMNS = tuple(field.name for field in fields(Problem))


@dataclass(frozen=True)
class Completions:
    """Completions of one step. Those of a question are adjacent. Every list has one entry per completion."""

    problems: list[Problem]
    prompts: list[list[int]]
    completion_ids: list[list[int]]
    texts: list[str]
    step_ends: list[list[int]]
    finished: list[bool]
    correct: list[bool]
    masks: list[list[int]] = field(default_factory=list)  # only for dialogues with tools
    calls: list[list[Call]] = field(default_factory=list)

    def keywords(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Any]]:
        """Return the arguments of functions and servers by name. The lists are copies, which they can change.

        `prompts`, `completions` (text), `prompt_ids`, `completion_ids`, `step_ends` (index of each step's last token), `steps` (text of
        each step), `finished`, `correct` (according to the answer checker), `completion_mask` (1 for tokens that the model drew), `calls`
        (programs that were run), and every column of the problem.
        """
        masks = [list(mask) for mask in self.masks] or [[1] * len(tokens) for tokens in self.completion_ids]
        found: dict[str, list[Any]] = {
            "prompts": _decode(tokenizer, self.prompts),
            "completions": list(self.texts),
            "prompt_ids": [list(prompt) for prompt in self.prompts],
            "completion_ids": [list(tokens) for tokens in self.completion_ids],
            "step_ends": [list(ends) for ends in self.step_ends],
            "steps": [_steps(tokenizer, *row) for row in zip(self.completion_ids, self.step_ends, masks, strict=True)],
            "finished": list(self.finished),
            "correct": list(self.correct),
            "completion_mask": masks,
            "calls": [call_rows(row) for row in self.calls] or [[] for _ in self.completion_ids],
        }
        return {**{column: [getattr(problem, column) for problem in self.problems] for column in COLUMNS}, **found}


NAMES = frozenset(
    (
        *COLUMNS,
        "prompts",
        "completions",
        "prompt_ids",
        "completion_ids",
        "steps",
        "step_ends",
        "finished",
        "correct",
        "completion_mask",
        "calls",
    )
)
"""The names of `Completions.keywords`."""


@dataclass(frozen=True)
class Values:
    """The values of one reward: for each completion one number, or one per step."""

    rows: list[list[float]]
    by_step: bool


def checked(values: Any, step_ends: Sequence[Sequence[int]], term: str) -> Values:
    """Check values that a function or server returned. Raises `MathQuarryError` naming `term` and the first problem."""
    values = _plain(values)
    if not isinstance(values, (list, tuple)):
        raise MathQuarryError(f"{term} returned {_shown(values)}; return a list with one entry per completion.")
    if len(values) != len(step_ends):
        raise MathQuarryError(f"{term} returned {len(values)} values for {len(step_ends)} completions; return one per completion.")
    entries = [_plain(entry) for entry in values]
    by_step = [isinstance(entry, (list, tuple)) for entry in entries]
    if any(by_step) and not all(by_step):
        place = by_step.index(not by_step[0])
        raise MathQuarryError(
            f"{term} returned a list for some completions and a number for others (completion {place}); return lists for all or none."
        )
    if not any(by_step):
        return Values([[_number(entry, term, f"completion {place}")] for place, entry in enumerate(entries)], False)
    for place, (entry, ends) in enumerate(zip(entries, step_ends, strict=True)):
        if len(entry) != len(ends):
            raise MathQuarryError(
                f"{term} returned {len(entry)} values for completion {place}, which has {len(ends)} steps; return one number per step."
            )
    rows = [
        [_number(value, term, f"step {step} of completion {place}") for step, value in enumerate(entry)]
        for place, entry in enumerate(entries)
    ]
    return Values(rows, True)


def call_rows(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Return the calls of one completion as functions and the table of rollouts have them: program, output, and the error or None."""
    return [{"program": call.program, "output": call.result.text, "error": call.result.error} for call in calls]


def _plain(value: Any) -> Any:
    """Convert arrays and tensors to lists and numbers."""
    return value.tolist() if callable(getattr(value, "tolist", None)) else value


def _number(value: Any, term: str, where: str) -> float:
    value = _plain(value)
    if not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        raise MathQuarryError(f"{term} returned {_shown(value)} for {where}; a reward must be a finite number.")
    return float(value)


def _shown(value: Any) -> str:
    """Format a value for a one-line error."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."


def _decode(tokenizer: PreTrainedTokenizerBase, sequences: list[list[int]]) -> list[str]:
    return [str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)) for tokens in sequences]


def _steps(tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: list[int], mask: list[int]) -> list[str]:
    """Return the text of each step, without the output of a program before it."""
    starts = [0, *(end + 1 for end in ends[:-1])]
    spans = [range(start, end + 1) for start, end in zip(starts, ends, strict=True)]
    return _decode(tokenizer, [[tokens[place] for place in span if mask[place]] for span in spans])
