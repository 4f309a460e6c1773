"""Asking a policy and judging what it answers: outputs in one of the three formats, their programs run, their answers graded.

1. An output that was cut before it ended is wrong, whatever it contains.
2. With tools, the answer is what the model itself boxed, not what a program printed; of a program-of-thought it is the last line that the
   program prints.
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

from data.config import GradeConfig, SolutionFormat
from data.grade.checker import Checker
from data.problems.problem import Problem
from data.programs.sandbox import Sandbox, make_sandbox
from data.solutions.answers import extract_answer
from data.solutions.example import Segment
from data.solutions.formats import first_program
from data.workspace import Bar
from models.config import RolloutConfig, ToolsConfig
from models.prompts import Prompter
from models.rollout.engine import Output, RolloutEngine, make_engine
from models.rollout.tools import Call, ToolOutput, ToolRollouts

TOO_LONG, CUT, NO_PROGRAM, FAILED = "question too long", "cut before it ended", "no program", "the program failed"
"""Reasons of wrong answers, beside those of the checker."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One output, the programs in it that were run, and the verdict."""

    segments: list[Segment]
    """Its text, without special tokens and `Prompter.lead`; what a program printed into it is not `trained`. A question that was too long
    to ask has none."""
    calls: list[Call]
    extracted: str | None
    correct: bool
    reason: str
    """What decided: one of the checker's reasons or of those above."""
    finished: bool
    tokens: int

    @property
    def text(self) -> str:
        """The whole output."""
        return "".join(segment.text for segment in self.segments)

    @property
    def written(self) -> str:
        """What the model wrote of it."""
        return "".join(segment.text for segment in self.segments if segment.trained)


class Examiner:
    """Asks one policy questions. A context manager: engine, checker and sandbox start and end with the block."""

    def __init__(
        self, policy: Path, formats: Sequence[SolutionFormat], rollout: RolloutConfig, tools: ToolsConfig, grade: GradeConfig
    ) -> None:
        """`policy` is a checkpoint folder, `formats` those that will be asked for: all but `cot` need a sandbox.

        Raises `MathQuarryError` when the folder is no checkpoint; entering the block does when there is no engine or no sandbox.
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
            self._engine = stack.enter_context(closing(make_engine(self._rollout, self._policy)))
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
        """`n` judged answers to each problem; `seeds` and `temperature` as for `RolloutEngine.generate`.

        A question that leaves no room in the model's context is not asked: its answers are empty and wrong. `progress` advances by one an
        answer.
        """
        prompts = [self.prompter.encode(problem.question, format, problem.language) for problem in problems]
        fits = [self._engine.limit is None or len(prompt) < self._engine.limit for prompt in prompts]
        generate: Callable[..., Sequence[Sequence[Output]]] = self._engine.generate
        if format == "tool":
            assert self._with_tools is not None, "formats with programs were announced"
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
        outputs = [output for fit in fits for output in (next(generated) if fit else [None] * n)]
        answers = self._judge(outputs, [problem for problem in problems for _ in range(n)], format)
        return [answers[start : start + n] for start in range(0, len(answers), n)]

    def _judge(self, outputs: Sequence[Output | None], problems: Sequence[Problem], format: SolutionFormat) -> list[Answer]:
        """The answers, one an output."""
        texts = [self._segments(output) if output else [] for output in outputs]
        ended = [output is not None and output.finished for output in outputs]
        found = self._extract(outputs, texts, format)
        gradable = [place for place, end in enumerate(ended) if end and not found[place].fault]
        verdicts = self._checker.grade_answers(
            [(found[place].answer, problems[place].answer) for place in gradable], [problems[place].tolerance for place in gradable]
        )
        judged = dict(zip(gradable, verdicts, strict=True))
        answers = []
        for place, output in enumerate(outputs):
            if place in judged:
                correct, reason = judged[place].correct, judged[place].reason
            else:
                correct, reason = False, TOO_LONG if output is None else found[place].fault if ended[place] else CUT
            tokens = len(output.tokens) if output else 0
            answers.append(Answer(texts[place], found[place].calls, found[place].answer, correct, reason, ended[place], tokens))
        return answers

    def _segments(self, output: Output) -> list[Segment]:
        """The output's text, cut where the mask changes. Prefixes are decoded, for a decoder may treat the first token unlike the rest."""
        mask = output.mask if isinstance(output, ToolOutput) else [1] * len(output.tokens)
        segments: list[Segment] = []
        before, end = "", 0
        for own, run in groupby(mask):
            end += len(list(run))
            text = str(self.prompter.tokenizer.decode(output.tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False))
            segments.append(Segment(text[len(before) :], bool(own)))
            before = text
        # What stands between prompt and answer in training is no part of the answer.
        return [Segment(segments[0].text.removeprefix(self.prompter.lead), segments[0].trained), *segments[1:]]

    def _extract(self, outputs: Sequence[Output | None], texts: Sequence[list[Segment]], format: SolutionFormat) -> list[_Found]:
        written = ["".join(segment.text for segment in segments if segment.trained) for segments in texts]
        if format != "pot":
            calls = [output.calls if isinstance(output, ToolOutput) else [] for output in outputs]
            return [_Found(extract_answer(text), "", run) for text, run in zip(written, calls, strict=True)]
        assert self._sandbox is not None, "formats with programs were announced"
        ended = [output is not None and output.finished for output in outputs]
        with ThreadPoolExecutor(self._tools.programs.running) as pool:
            return list(pool.map(partial(run_program, self._sandbox), written, ended))


@dataclass(frozen=True, slots=True)
class _Found:
    """The answer in an output, why there is none, and the programs that were run."""

    answer: str | None
    fault: str
    calls: list[Call]


def run_program(sandbox: Sandbox, text: str, ended: bool = True) -> _Found:
    """The last line that a program-of-thought prints, or why there is none. One that was cut (not `ended`) is not run."""
    block = first_program(f"{text}\n")
    if not ended or block is None:
        return _Found(None, NO_PROGRAM, [])
    result = sandbox.run(block.program)
    lines = result.stdout.strip().splitlines()
    calls = [Call(block.program, result)]
    if result.error or not lines:
        return _Found(None, f"{FAILED}: {result.error or 'it prints nothing'}", calls)
    return _Found(lines[-1].strip(), "", calls)
