"""`mathquarry sample` and `mathquarry chat`: ask a model questions, with its training prompt."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.flows.cli.named_model import checkpoint, find_model
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig

if TYPE_CHECKING:
    from mathquarry.models.policy.prompts import Prompter
    from mathquarry.models.rollout.engine import Completion, RolloutEngine


def ask(options: argparse.Namespace) -> None:
    """Print the answers to one question."""
    question = sys.stdin.read() if options.question == "-" else options.question
    if not question.strip():
        raise MathQuarryError("the question is empty.")
    with Asking(options) as asking:
        for number, text in enumerate(asking.answers(question), 1):
            print(f"--- {number}" if options.n > 1 else "", end="\n" if options.n > 1 else "")
            print(text)


def converse(options: argparse.Namespace) -> None:
    """Answer lines of standard input until it ends. Each line is a separate question, since models are not trained on conversations."""
    with Asking(options) as asking:
        shown = sys.stdin.isatty()
        if shown:
            print("Each line is a separate question. An empty line or Ctrl-D ends.")
        while True:
            try:
                question = input("> " if shown else "")
            except EOFError:
                return
            if not question.strip():
                return
            try:
                print(asking.answers(question)[0], end="\n\n" if shown else "\n")
            except MathQuarryError as error:  # a question that is too long does not end the session
                print(f"mathquarry: {error}", file=sys.stderr)


class Asking:
    """A loaded model that answers questions. A context manager."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises `MathQuarryError` for invalid numbers. Entering the context raises it if the model cannot be loaded."""
        numbers = (("-n", options.n, 1), ("--max-tokens", options.max_tokens, 1), ("--temperature", options.temperature, 0))
        for name, value, least in numbers:
            if not least <= value < 1e9:
                raise MathQuarryError(f"{name} is {value}; it must be at least {least}.")
        if options.n > 1 and options.temperature == 0:
            raise MathQuarryError(
                f"-n is {options.n} with --temperature 0, so all answers would be the same. Set a temperature, for example 0.7."
            )
        self._options = options
        self._stack = ExitStack()
        self._prompter: Prompter
        self._engine: RolloutEngine

    def __enter__(self) -> Asking:
        model = find_model(self._options.model, self._options.store)
        from mathquarry.models.policy.prompts import Prompter
        from mathquarry.models.rollout.make import make_engine

        with ExitStack() as stack:
            folder: Path = stack.enter_context(checkpoint(model, self._options.prompts))
            self._prompter = Prompter.load(folder)
            rollout = RolloutConfig(engine=self._options.engine, max_tokens=self._options.max_tokens)
            self._engine = stack.enter_context(closing(make_engine(rollout, folder, alone=True)))
            if self._options.format != "cot":
                from mathquarry.data.programs.sandbox import make_sandbox

                self._tools = ToolsConfig(programs=ProgramsConfig(sandbox=self._options.sandbox))
                self._sandbox = stack.enter_context(make_sandbox(self._tools.programs))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def answers(self, question: str) -> list[str]:
        """Return the answers' texts. With tools they contain the programs' output; a program of thought is followed by its output.

        Raises `MathQuarryError` for a question that is longer than the model's context.
        """
        from mathquarry.data.problems.benchmark import language_of

        options = self._options
        prompt = self._prompter.encode(question, options.format, language_of(question))
        settings = {"n": options.n, "temperature": options.temperature, "max_tokens": options.max_tokens, "seeds": [options.seed]}
        completions: list[Completion]
        if options.format == "tool":
            from mathquarry.models.rollout.tools import ToolRollouts

            with_tools = ToolRollouts(self._prompter.tokenizer, self._sandbox, self._tools)
            completions = list(with_tools.generate(self._engine, [prompt], **settings)[0])
        else:
            completions = self._engine.generate([prompt], **settings)[0]
        return [self._text(completion) for completion in completions]

    def _text(self, completion: Completion) -> str:
        text = str(self._prompter.tokenizer.decode(completion.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        text = text.removeprefix(self._prompter.lead)
        if not completion.finished:
            return f"{text}\n[cut after {len(completion.tokens)} tokens]"
        if self._options.format == "pot":
            from mathquarry.models.evaluate.sample_and_grade import run_program

            found = run_program(self._sandbox, text)
            return f"{text}\n[output: {found.answer}]" if found.answer is not None else f"{text}\n[{found.fault}]"
        return text
