"""Step labels without people: complete each prefix N times and see whether the right answer is reached (Math-Shepherd, arXiv 2312.08935).

Where this differs from Math-Shepherd:
1. the completer is the policy that wrote the solutions, as in DeepSeekMath's loop, where the reward model judges the policy of the day;
2. the last step's label is whether the answer itself is right: there is nothing left to complete;
3. an output that was cut before it ended is wrong, whatever it contains, as it is in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from data.grade.checker import Verdict
from models.config import LabelConfig, RolloutConfig
from models.rollout.engine import RolloutEngine
from models.seeds import derive_seed

Grader = Callable[[Sequence[tuple[str, str]]], list[Verdict]]
"""`Checker.grade_many`: (output text, gold answer) pairs to verdicts."""


@dataclass(frozen=True, slots=True)
class Solution:
    """An output that was sampled for a question and graded. `step_ends` are indices into `output`, the last one its final token."""

    problem_id: str
    gold: str
    prompt: list[int]
    output: list[int]
    step_ends: list[int]
    finished: bool
    correct: bool


@dataclass(frozen=True, slots=True)
class _Prefix:
    """Prompt and first steps of a solution. Solutions that begin alike share it, and its completions."""

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
    """One label in [0, 1] for each step end of each solution.

    `config.completions` continuations of each prefix are sampled and graded: hard labels are 1 if any is right, soft ones the share that
    is. A continuation may use as many tokens as are left of `rollout.max_tokens`, so that a step is good only if the policy can still
    answer in time. Labels depend on `seed` and the prefix, not on the other solutions.

    Completions are sampled in rounds of 1, 1, 2, 4, ... and a prefix leaves when its label is decided: a hard one with the first right
    completion. The samples of a round do not depend on who is left, so labels are those of all `config.completions`.
    """
    prefixes = [[_prefix(solution, end) for end in solution.step_ends[:-1]] for solution in solutions]
    wanted = list(dict.fromkeys(prefix for row in prefixes for prefix in row))
    right = dict(zip(wanted, _count_right(wanted, engine, grade, tokenizer, config, rollout, seed), strict=True))
    labels = {prefix: float(count > 0) if config.estimate == "hard" else count / config.completions for prefix, count in right.items()}
    return [[*(labels[prefix] for prefix in row), float(solution.correct)] for row, solution in zip(prefixes, solutions, strict=True)]


def decode_outputs(tokenizer: PreTrainedTokenizerBase, outputs: Sequence[Sequence[int]]) -> list[str]:
    """Text of outputs as the checker reads it, without special tokens."""
    if not outputs:
        return []  # batch_decode takes an empty list for one empty output
    return tokenizer.batch_decode([list(output) for output in outputs], skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _prefix(solution: Solution, end: int) -> _Prefix:
    return _Prefix(solution.gold, tuple(solution.prompt), tuple(solution.output[: end + 1]))


def _count_right(
    prefixes: list[_Prefix],
    engine: RolloutEngine,
    grade: Grader,
    tokenizer: PreTrainedTokenizerBase,
    config: LabelConfig,
    rollout: RolloutConfig,
    seed: int,
) -> list[int]:
    """Right completions of each prefix among those sampled; of hard labels, no more are sampled than decide them.

    A prefix that used up all tokens has no completion.
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
        texts = decode_outputs(tokenizer, [[*prefixes[place].steps, *completion.tokens] for place, completion in pairs])
        verdicts = grade([(text, prefixes[place].gold) for text, (place, _) in zip(texts, pairs, strict=True)])
        for (place, _), verdict in zip(pairs, verdicts, strict=True):
            right[place] += verdict.correct
        sampled += count
        if config.estimate == "hard":
            places = [place for place in places if not right[place]]
    return right
