"""Commands that work with any model: `evaluate`, `export`, `sample` and `chat`; and `export-corpus`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mathquarry.flows.cli.commands.common import MODEL as HELP
from mathquarry.flows.cli.commands.common import command

if TYPE_CHECKING:
    from mathquarry.flows.cli.commands.common import Commands

ANSWER_FROM = ("text", "boxed", "hash")
FORMATS = ("cot", "pot", "tool")
PROMPTS = ("paper", "short", "own")
SANDBOXES = ("container", "local", "arithmetic")
"""The values in the configs, repeated here because importing the configs takes longer than printing the help."""


def register(commands: Commands) -> None:
    """Add this group's commands."""
    _evaluate(commands)
    _sample(commands)
    _export(commands)


def later(module: str, function: str) -> Callable[[argparse.Namespace], None]:
    """Return a function of a module in `flows/cli/`. The module is imported when the command runs."""

    def call(options: argparse.Namespace) -> None:
        getattr(import_module(f"mathquarry.flows.cli.{module}"), function)(options)

    return call


def _evaluate(commands: Commands) -> None:
    purpose = "Evaluate any model on benchmarks, with strict and lenient grading, standard errors and a report."
    evaluate = command(commands, "evaluate", purpose)
    evaluate.add_argument("model", help=HELP)
    evaluate.add_argument(
        "--on", required=True, metavar="SET[,SET...]", help="problem sets: gsm8k (its test split on the hub) or gsm8k=FILE, as in a recipe"
    )
    columns = evaluate.add_argument_group("your own sets (NAME=FILE)")
    columns.add_argument("--question", default="question", metavar="COLUMN", help="column of the questions (default: question)")
    columns.add_argument("--answer", default="answer", metavar="COLUMN", help="column of the answers (default: answer)")
    columns.add_argument("--answer-from", choices=ANSWER_FROM, default="text", help="where in this column the answer is (default: text)")
    evaluate.add_argument("--tool", action="store_true", help="also evaluate with programs, which run in the sandbox")
    evaluate.add_argument(
        "-k", type=int, default=1, metavar="K", help="samples per question, in addition to the greedy answer (default: 1)"
    )
    evaluate.add_argument(
        "--temperature", type=float, default=0.7, metavar="T", help="sampling temperature (default: 0.7, as in the paper)"
    )
    evaluate.add_argument("--questions", type=int, metavar="N", help="only the first N questions of each set (default: all)")
    evaluate.add_argument("--seed", type=int, default=0, help="seed for sampling (default: 0)")
    evaluate.add_argument("-o", "--output", type=Path, default=Path("evaluation"), help="folder to write (default: %(default)s)")
    _add_asking(evaluate)
    evaluate.set_defaults(run=later("evaluate", "evaluate_model"))


def _export(commands: Commands) -> None:
    purpose = "Export a policy as a self-contained Hugging Face folder, and optionally push it to the hub."
    export = command(commands, "export", purpose)
    export.add_argument("policy", help=HELP)
    export.add_argument("folder", type=Path, help="new folder to write")
    export.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="precision of the weights (default: unchanged)")
    export.add_argument(
        "--max-tokens", type=int, default=1024, metavar="N", help="maximum answer length in its generation config (default: 1024)"
    )
    export.add_argument(
        "--merge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="add adapters to the weights, so that any program loads the folder (default); --no-merge keeps them apart, in peft's format, "
        "beside the model in `base`",
    )
    export.set_defaults(run=later("export", "export_policy"))
    purpose = "Export a corpus as a data set for `datasets`, with its card and decontamination report."
    corpus = command(commands, "export-corpus", purpose)
    corpus.add_argument("corpus", help="artifact of stage mine: its key, or `mine` for the latest")
    corpus.add_argument("folder", type=Path, help="new folder to write")
    corpus.set_defaults(run=later("export", "export_corpus"))
    for one in (export, corpus):
        one.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to this repository on the hub (needs HF_TOKEN)")
        one.add_argument("--public", action="store_true", help="make the pushed repository public (default: private)")


def _sample(commands: Commands) -> None:
    purpose = "Ask a model a question, with its training prompt, and print its answers."
    sample = command(commands, "sample", purpose)
    sample.add_argument("model", help=HELP)
    sample.add_argument("question", help="the question; `-` reads it from standard input")
    sample.add_argument("-n", type=int, default=1, metavar="N", help="number of answers (default: 1)")
    sample.set_defaults(run=later("sample", "ask"))
    purpose = "Ask a model questions interactively, one per line."
    chat = command(commands, "chat", purpose)
    chat.add_argument("model", help=HELP)
    chat.set_defaults(run=later("sample", "converse"), n=1)
    for one in (sample, chat):
        _add_asking(one)
        one.add_argument("--format", choices=FORMATS, default="cot", help="kind of solution (default: cot)")
        one.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (default: 0)")
        one.add_argument("--seed", type=int, default=0, help="seed for sampling (default: 0)")


def _add_asking(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--engine", choices=["transformers", "vllm"], default="transformers", help="engine that generates (default: transformers)"
    )
    command.add_argument("--max-tokens", type=int, default=1024, metavar="N", help="maximum answer length (default: 1024)")
    command.add_argument(
        "--prompts",
        choices=PROMPTS,
        help="prompt style: the paper's, short, or the tokenizer's own chat template (default: as in training)",
    )
    command.add_argument("--sandbox", choices=SANDBOXES, default="container", help="where programs run (default: container)")
