"""`mathquarry evaluate`: evaluates any model on benchmarks, without a store. Writes scores, every answer, and a report to a folder."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json, write_json
from mathquarry.data.problems.config import SET_NAME, OwnProblems, ProblemFiles
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.store.workspace import Workspace
from mathquarry.flows.cli.export import serve_command
from mathquarry.flows.cli.named_model import NamedModel, checkpoint, find_model
from mathquarry.models.evaluate.config import EvaluateConfig
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig

SETTINGS = "settings.json"


def evaluate_model(options: argparse.Namespace) -> None:
    """Evaluate a model, print the scores, and write `report.html`. Continues an interrupted evaluation."""
    config = _config(options)
    # Load problem sets first: a missing one should be reported before the model loads.
    sets = _held_out(options)
    model = find_model(options.model, options.store)
    _keep_settings(options, model, config, sets)
    from mathquarry.data.report.evaluation import Scored, score_table, write_evaluation
    from mathquarry.models.evaluate.evaluate import evaluate

    results = []
    with checkpoint(model, options.prompts) as folder:
        for name, problems in sets.items():
            workspace = Workspace.at(options.output / name)
            write_problems(workspace.scratch / "test.jsonl", problems)
            summary = evaluate(config, folder, workspace.scratch, workspace)
            results.append(Scored(name, summary, config.formats, workspace.out / "answers.parquet"))
    write_evaluation(model.title, results, (options.output / SETTINGS).read_text(encoding="utf-8"), options.output)
    headers, rows = score_table(results)
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for line in [headers, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f"\nreport:    {(options.output / 'report.html').resolve()}")
    if isinstance(model.source, Path) and model.key is None:
        print(f"serve it:  {serve_command(model.source)}")
    elif model.key is not None:
        print(f"serve it:  mathquarry export {model.name} DIR, then {serve_command(Path('DIR'))}")


def _config(options: argparse.Namespace) -> EvaluateConfig:
    for name, value in (("-k", options.k), ("--questions", options.questions), ("--max-tokens", options.max_tokens)):
        if value is not None and value < 1:
            raise MathQuarryError(f"{name} is {value}; it must be a whole number of at least 1.")
    if not 0 < options.temperature < 1e9:
        raise MathQuarryError(f"--temperature is {options.temperature}; it must be above 0. Greedy answers are always included.")
    formats: list[SolutionFormat] = ["cot", "tool"] if options.tool else ["cot"]
    return EvaluateConfig(
        questions=options.questions,
        k=options.k,
        temperature=options.temperature,
        formats=formats,
        tools=ToolsConfig(programs=ProgramsConfig(sandbox=options.sandbox)),
        rollout=RolloutConfig(engine=options.engine, max_tokens=options.max_tokens),
        seed=options.seed,
    )


def _held_out(options: argparse.Namespace) -> dict[str, list[Problem]]:
    """Return questions by the name of their set. A set without a built-in format is read by the columns in the options."""
    from mathquarry.data.problems.registry import DATASETS, find

    found: dict[str, list[Problem]] = {}
    for entry in (part.strip() for part in options.on.split(",")):
        name, equals, _ = entry.partition("=")
        if not re.fullmatch(SET_NAME, name):
            raise MathQuarryError(f"--on {entry}: write SET or NAME=FILE. The name has lowercase letters, digits and -.")
        if name in found:
            raise MathQuarryError(f"--on has {name} twice. Give each set once.")
        own = {} if name in DATASETS or not equals else {name: _columns(options)}
        source = ProblemFiles(train=[], test=[entry], sets=own)
        dataset, path = find(entry if equals else f"{entry}=hub", source, train=False)
        found[name] = [problem for problem in dataset.held_out(path) if problem.question and problem.answer]
        if not found[name]:
            raise MathQuarryError(f"{path}: none of its records has a question and an answer.")
    return found


def _columns(options: argparse.Namespace) -> OwnProblems:
    return OwnProblems(question=options.question, answer=options.answer, answer_from=options.answer_from)


def _keep_settings(options: argparse.Namespace, model: NamedModel, config: EvaluateConfig, sets: Mapping[str, list[Problem]]) -> None:
    """Write down the settings of the evaluation. Raises `MathQuarryError` if the folder holds another evaluation."""
    settings = {
        "model": model.key or str(model.source),
        "prompts": options.prompts or "as trained",
        "questions": {name: _digest(problems) for name, problems in sets.items()},
        "evaluate": config.identity(),
    }
    path = options.output / SETTINGS
    if path.exists():
        if read_json(path) != json.loads(json.dumps(settings)):
            raise MathQuarryError(f"{options.output} holds another evaluation, see {path}. Choose another folder with -o, or delete it.")
    elif options.output.exists() and (not options.output.is_dir() or any(options.output.iterdir())):
        raise MathQuarryError(f"{options.output} exists already, but is not an evaluation. Choose another folder with -o.")
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _digest(problems: list[Problem]) -> str:
    """Return a hash that identifies a list of questions."""
    return hashlib.sha256(json.dumps([asdict(problem) for problem in problems]).encode()).hexdigest()[:20]
