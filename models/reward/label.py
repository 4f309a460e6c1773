"""Step labels without human annotation: completes each prefix N times and checks whether the correct answer is reached.

Follows Math-Shepherd (arXiv 2312.08935), with these differences:
1. the policy that wrote the solutions completes them, as in DeepSeekMath's loop, where the reward model scores the current policy;
2. the last step's label is whether the answer itself is correct: there is nothing left to complete;
3. a truncated completion is wrong, whatever it contains, as in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from mathquarry.data.grade.verdict import Verdict
from mathquarry.models.reward.config import LabelConfig
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.seeds import derive_seed

Grader = Callable[[Sequence[tuple[str, str]]], list[Verdict]]
"""`Checker.grade_many`: (completion text, gold answer) pairs to verdicts."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A completion that was sampled for a question and graded. `step_ends` are indices into `completion`, the last one its final token."""

    problem_id: str
    gold: str
    prompt: list[int]
    completion: list[int]
    step_ends: list[int]
    finished: bool
    correct: bool


@dataclass(frozen=True, slots=True)
class _Prefix:
    """Prompt and first steps of a solution. Solutions with the same beginning share it, and its completions."""

    gold: str
    prompt: tuple[int, ...]
    steps: tuple[int, ...]


def label_steps(
    solutions: Sequence[Solution],
    engine: RolloutEngine,
    grade: Grader,
    tokenizer: PreTrainedTokenizerBase,
    config: LabelConfig,
    rollout: RolloutConfig,
    seed: int,
) -> list[list[float]]:
    """Return one label in [0, 1] for each step end of each solution.

    For each prefix, `config.completions` continuations are sampled and graded. A hard label is 1 if any of them is correct; a soft label is
    the share of correct ones. A continuation may use the tokens that are left of `rollout.max_tokens`, so a step is only good if the policy
    can still answer within the limit. Labels depend on `seed` and the prefix, not on the other solutions.

    Completions are sampled in rounds of 1, 1, 2, 4, ... A prefix leaves when its label is decided: with hard labels, after the first
    correct completion. The samples of a round do not depend on which prefixes are left, so the labels are those of all
    `config.completions`.
    """
    prefixes = [[_prefix(solution, end) for end in solution.step_ends[:-1]] for solution in solutions]
    wanted = list(dict.fromkeys(prefix for row in prefixes for prefix in row))
    right = dict(zip(wanted, _count_right(wanted, engine, grade, tokenizer, config, rollout, seed), strict=True))
    labels = {prefix: float(count > 0) if config.estimate == "hard" else count / config.completions for prefix, count in right.items()}
    return [[*(labels[prefix] for prefix in row), float(solution.correct)] for row, solution in zip(prefixes, solutions, strict=True)]


def decode_completions(tokenizer: PreTrainedTokenizerBase, completions: Sequence[Sequence[int]]) -> list[str]:
    """Decode completions for the checker, without special tokens."""
    if not completions:
        return []  # batch_decode reads an empty list as one empty completion
    return tokenizer.batch_decode(
        [list(completion) for completion in completions], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def _prefix(solution: Solution, end: int) -> _Prefix:
    return _Prefix(solution.gold, tuple(solution.prompt), tuple(solution.completion[: end + 1]))


def _count_right(
    prefixes: list[_Prefix],
    engine: RolloutEngine,
    grade: Grader,
    tokenizer: PreTrainedTokenizerBase,
    config: LabelConfig,
    rollout: RolloutConfig,
    seed: int,
) -> list[int]:
    """Count the correct completions of each prefix. For hard labels, sampling stops when the label is decided.

    A prefix that used up all tokens has no completions.
    """
    room = [rollout.max_tokens - len(prefix.steps) for prefix in prefixes]
    places = [place for place, tokens in enumerate(room) if tokens > 0]
    right, sampled = [0] * len(prefixes), 0
    while places and sampled < config.completions:
        count = min(max(1, sampled), config.completions - sampled)
        completions = engine.generate(
            [[*prefixes[place].prompt, *prefixes[place].steps] for place in places],
            n=count,
            temperature=rollout.temperature,
            max_tokens=[room[place] for place in places],
            seeds=[derive_seed(seed, "label", prefixes[place].prompt, prefixes[place].steps, sampled) for place in places],
        )
        pairs = [(place, completion) for place, row in zip(places, completions, strict=True) for completion in row if completion.finished]
        texts = decode_completions(tokenizer, [[*prefixes[place].steps, *completion.tokens] for place, completion in pairs])
        verdicts = grade([(text, prefixes[place].gold) for text, (place, _) in zip(texts, pairs, strict=True)])
        for (place, _), verdict in zip(pairs, verdicts, strict=True):
            right[place] += verdict.correct
        sampled += count
        if config.estimate == "hard":
            places = [place for place in places if not right[place]]
    return right
