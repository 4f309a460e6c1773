"""Sample completions from a policy in one of the three formats, run their programs, and grade their answers.

1. A truncated completion is wrong, whatever it contains.
2. With tools, the answer is the one that the model itself boxed, not one that a program printed. The answer of a program-of-thought is the
   last line that the program prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from mathquarry.data.grade.checker import Checker
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.problems.answers import extract_answer, lenient_answer
from mathquarry.data.problems.problem import Problem
from mathquarry.data.programs.interface import Sandbox
from mathquarry.data.programs.sandbox import make_sandbox
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.example import Segment
from mathquarry.data.solutions.formats import first_program
from mathquarry.data.store.workspace import Bar
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig
from mathquarry.models.rollout.engine import Completion, RolloutEngine
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.tools import Call, ToolCompletion, ToolRollouts

TOO_LONG, CUT, NO_PROGRAM, FAILED = "question too long", "cut before it ended", "no program", "the program failed"
"""Reasons for wrong answers, in addition to the checker's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion, the programs in it that were run, and whether its answer is correct."""

    segments: list[Segment]
    """The text, without special tokens and `Prompter.lead`. Text printed by a program is not `trained`. Empty if the question was too
    long."""
    calls: list[Call]
    extracted: str | None
    correct: bool
    reason: str
    """One of the checker's reasons or of those above."""
    finished: bool
    tokens: int

    @property
    def text(self) -> str:
        """The text of the whole completion."""
        return "".join(segment.text for segment in self.segments)

    @property
    def written(self) -> str:
        """The part of the text that the model wrote."""
        return "".join(segment.text for segment in self.segments if segment.trained)


@dataclass(frozen=True, slots=True)
class LenientReading:
    """The answer that the lenient reading finds in a completion, and whether it is correct."""

    extracted: str | None
    correct: bool
    reason: str


class GradedSampler:
    """Samples answers from one policy and grades them. A context manager: it starts and stops engine, checker and sandbox."""

    def __init__(
        self, policy: Path, formats: Sequence[SolutionFormat], rollout: RolloutConfig, tools: ToolsConfig, grade: GradeConfig
    ) -> None:
        """`policy` is a checkpoint folder. `formats` are the formats that will be sampled; all but `cot` need a sandbox.

        Raises `MathQuarryError` if the folder is not a checkpoint. Entering the context raises it if there is no engine or no sandbox.
        """
        self.prompter = Prompter.load(policy)
        self._policy, self._rollout, self._tools, self._grade = policy, rollout, tools, grade
        self._runs_programs = any(format != "cot" for format in formats)
        self._stack = ExitStack()
        self._engine: RolloutEngine
        self._checker: Checker
        self._sandbox: Sandbox | None = None
        self._with_tools: ToolRollouts | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._checker = stack.enter_context(Checker(self._grade))
            if self._runs_programs:
                self._sandbox = stack.enter_context(make_sandbox(self._tools.programs))
                self._with_tools = ToolRollouts(self.prompter.tokenizer, self._sandbox, self._tools)
            self._engine = stack.enter_context(closing(make_engine(self._rollout, self._policy, alone=True)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def ask(
        self,
        problems: Sequence[Problem],
        format: SolutionFormat,
        *,
        n: int,
        temperature: float,
        seeds: Sequence[int],
        progress: Bar | None = None,
    ) -> list[list[Answer]]:
        """Return `n` graded answers to each problem. `seeds` and `temperature` are those of `RolloutEngine.generate`.

        A question that leaves no room in the model's context is skipped: its answers are empty and wrong. `progress` advances by one per
        answer.
        """
        prompts = [self.prompter.encode(problem.question, format, problem.language) for problem in problems]
        fits = [self._engine.limit is None or len(prompt) < self._engine.limit for prompt in prompts]
        generate: Callable[..., Sequence[Sequence[Completion]]] = self._engine.generate
        if format == "tool":
            assert self._with_tools is not None, "formats with programs must be named in the constructor"
            generate = partial(self._with_tools.generate, self._engine)
        generated = iter(
            generate(
                [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit],
                n=n,
                temperature=temperature,
                max_tokens=self._rollout.max_tokens,
                seeds=[seed for seed, fit in zip(seeds, fits, strict=True) if fit],
                progress=progress,
            )
        )
        if progress is not None:
            progress.advance(n * fits.count(False))
        completions = [completion for fit in fits for completion in (next(generated) if fit else [None] * n)]
        answers = self._graded(completions, [problem for problem in problems for _ in range(n)], format)
        return [answers[start : start + n] for start in range(0, len(answers), n)]

    def read_leniently(self, answers: Sequence[Answer], problems: Sequence[Problem], format: SolutionFormat) -> list[LenientReading]:
        """Grade answers to these problems with the lenient reading, which also reads completions without a box (`lenient_answer`).

        Both readings agree if the strict one finds an answer. They also agree on the output of a program and on a truncated completion.
        """
        found = [
            lenient_answer(answer.written) if format != "pot" and answer.finished and not answer.extracted else answer.extracted
            for answer in answers
        ]
        places = [place for place, answer in enumerate(answers) if found[place] != answer.extracted]
        verdicts = self._checker.grade_answers(
            [(found[place], problems[place].answer) for place in places], [problems[place].tolerance for place in places]
        )
        graded = dict(zip(places, verdicts, strict=True))
        return [
            LenientReading(found[place], verdict.correct, verdict.reason)
            if (verdict := graded.get(place))
            else LenientReading(answer.extracted, answer.correct, answer.reason)
            for place, answer in enumerate(answers)
        ]

    def _graded(self, completions: Sequence[Completion | None], problems: Sequence[Problem], format: SolutionFormat) -> list[Answer]:
        """Grade completions: one answer each."""
        texts = [self._segments(completion) if completion else [] for completion in completions]
        ended = [completion is not None and completion.finished for completion in completions]
        found = self._extract(completions, texts, format)
        gradable = [place for place, end in enumerate(ended) if end and not found[place].fault]
        verdicts = self._checker.grade_answers(
            [(found[place].answer, problems[place].answer) for place in gradable], [problems[place].tolerance for place in gradable]
        )
        graded = dict(zip(gradable, verdicts, strict=True))
        answers = []
        for place, completion in enumerate(completions):
            if place in graded:
                correct, reason = graded[place].correct, graded[place].reason
            else:
                correct, reason = False, TOO_LONG if completion is None else found[place].fault if ended[place] else CUT
            tokens = len(completion.tokens) if completion else 0
            answers.append(Answer(texts[place], found[place].calls, found[place].answer, correct, reason, ended[place], tokens))
        return answers

    def _segments(self, completion: Completion) -> list[Segment]:
        """Split the completion's text where the mask changes. Decodes prefixes, since a decoder may treat the first token differently from
        the rest."""
        mask = completion.mask if isinstance(completion, ToolCompletion) else [1] * len(completion.tokens)
        segments: list[Segment] = []
        before, end = "", 0
        for own, run in groupby(mask):
            end += len(list(run))
            text = str(
                self.prompter.tokenizer.decode(completion.tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
            )
            segments.append(Segment(text[len(before) :], bool(own)))
            before = text
        # The text between prompt and answer in training is not part of the answer.
        return [Segment(segments[0].text.removeprefix(self.prompter.lead), segments[0].trained), *segments[1:]]

    def _extract(self, completions: Sequence[Completion | None], texts: Sequence[list[Segment]], format: SolutionFormat) -> list[_Found]:
        written = ["".join(segment.text for segment in segments if segment.trained) for segments in texts]
        if format != "pot":
            calls = [completion.calls if isinstance(completion, ToolCompletion) else [] for completion in completions]
            return [_Found(extract_answer(text), "", run) for text, run in zip(written, calls, strict=True)]
        assert self._sandbox is not None, "formats with programs must be named in the constructor"
        ended = [completion is not None and completion.finished for completion in completions]
        with ThreadPoolExecutor(self._tools.programs.running) as pool:
            return list(pool.map(partial(run_program, self._sandbox), written, ended))


@dataclass(frozen=True, slots=True)
class _Found:
    """The answer in a completion or the reason why there is none, and the programs that were run."""

    answer: str | None
    fault: str
    calls: list[Call]


def run_program(sandbox: Sandbox, text: str, ended: bool = True) -> _Found:
    """Return the last line that a program-of-thought prints, or why there is none. A truncated program (not `ended`) is not run."""
    block = first_program(f"{text}\n")
    if not ended or block is None:
        return _Found(None, NO_PROGRAM, [])
    result = sandbox.run(block.program)
    lines = result.stdout.strip().splitlines()
    calls = [Call(block.program, result)]
    if result.error or not lines:
        return _Found(None, f"{FAILED}: {result.error or 'it prints nothing'}", calls)
    return _Found(lines[-1].strip(), "", calls)
