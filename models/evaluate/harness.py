"""Stage `harness`: evaluate a policy with lm-evaluation-harness (paper Table 4: MMLU, BBH, HumanEval, MBPP).

The harness asks the questions and scores the answers; it is the optional extra `lm-eval`. This module loads our checkpoint, finds data sets
in a folder of local copies if there is one, and runs programs of the model in our sandbox. Other ways to run them are refused.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, nullcontext
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path, read_json, write_json
from mathquarry.data.programs.interface import Sandbox
from mathquarry.data.programs.sandbox import make_sandbox
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.evaluate.config import HarnessConfig
from mathquarry.models.policy.merge import whole_checkpoint

RESULTS, SAMPLES = "results.json", "samples.parquet"
MOST_TEXT = 20_000
"""Maximum characters kept of one field of a sample."""

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("benchmark", "task", "filter", "document", "prompt", "responses", "target", "metrics")]
)

Program = Callable[[Mapping[str, Any], str], str]
"""Turns (document, response) into a program that ends without an error if the response is correct."""

CODE_TASKS: dict[str, Program] = {
    "humaneval": lambda document, response: f"{document['prompt']}{response}\n{document['test']}\ncheck({document['entry_point']})",
    "mbpp": lambda document, response: "\n".join([response, *document["test_list"]]),
}
"""Tasks whose responses are programs that the sandbox can run."""

FILE_KINDS = ("json", "csv", "parquet", "arrow", "text")
"""Values of a task's data set path that mean the task's own files."""

MBPP_EXAMPLES = (2, 3, 4)
"""Documents of MBPP's `prompt` split that its authors show before each question (arXiv 2108.07732, section 4.1)."""


def harness_version() -> str:
    """Return the installed version. Raises `MathQuarryError` if it is not installed."""
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise MathQuarryError(
            "harness.tasks names benchmarks, but lm-evaluation-harness is not installed: `pip install mathquarry[lm-eval]`."
        ) from None


def run_harness(config: HarnessConfig, policy: Path, workspace: Workspace) -> dict[str, float | int | str]:
    """Evaluate the checkpoint `policy` on every benchmark of `config.tasks`.

    Writes `results.json` (the harness's results for each benchmark, without samples) and `samples.parquet` (one row per document, see
    `SCHEMA`; values that are not text are JSON). Finished benchmarks are kept in `workspace.scratch`; an interrupted run continues after
    them.

    Returns `BENCHMARK METRIC` and its `_se` as the harness computes them, and `BENCHMARK questions`. Raises `MathQuarryError` if the
    harness is not installed, or if a benchmark is unknown, would run code outside the sandbox, or has data that cannot be read.
    """
    harness_version()
    if os.environ.get("HF_ALLOW_CODE_EVAL") == "1":
        raise MathQuarryError("HF_ALLOW_CODE_EVAL=1 lets benchmarks run a model's code outside the sandbox. Unset it.")
    manager = _task_manager(str(Path(config.definitions).resolve()) if config.definitions else None)
    for name in config.tasks:
        _check(name, manager.task_index, config)
    parts = {name: workspace.scratch / f"{name}.json" for name in config.tasks}
    missing = [name for name, part in parts.items() if not part.exists()]
    if missing:
        with whole_checkpoint(policy) as whole:
            model = _model(config, whole)
            for name in missing:
                _check_room(name, manager.task_index, config, model)
            programs = any(name in CODE_TASKS for name in missing)
            with (
                make_sandbox(config.programs) if programs else nullcontext() as sandbox,
                workspace.progress.track("harness", len(parts), "benchmark", len(parts) - len(missing)) as bar,
            ):
                for name in missing:
                    # The harness looks for data sets by name below the working directory, and so finds local copies.
                    with chdir(config.data) if config.data else nullcontext():
                        found = _evaluate(name, config, model, manager, sandbox)
                    write_json(parts[name], found)
                    bar.advance()
    found = {name: read_json(part) for name, part in parts.items()}
    rows = [row for name, part in found.items() for row in _rows(name, part.pop("samples"))]
    with atomic_path(workspace.out / SAMPLES) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary)
    write_json(workspace.out / RESULTS, found)
    workspace.metrics.rewind(-1)
    workspace.metrics.log(
        0, **{name: value for part in found.values() for entry in part["results"] for name, value in _scores(entry, part)}
    )
    return {name: value for benchmark, part in found.items() for entry in _top(benchmark, part) for name, value in _scores(entry, part)}


@lru_cache(maxsize=1)
def _task_manager(definitions: str | None) -> Any:
    """Return the harness's own tasks and those in a folder. Cached, since the harness reads about ten thousand files."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=definitions)


def _check(name: str, index: Mapping[str, Any], config: HarnessConfig) -> None:
    """Check, before a benchmark is loaded, that it exists, that its data are here, and that it runs no code of its own."""
    if name not in index:
        raise MathQuarryError(f"harness.tasks: lm-evaluation-harness {harness_version()} has no benchmark {name}.")
    for task in _leaves(name, index):
        if task.get("unsafe_code") and name not in CODE_TASKS:
            raise MathQuarryError(
                f"harness.tasks: {task.get('task', name)} would run the model's programs outside the sandbox, so it is refused. "
                f"{' and '.join(CODE_TASKS)} can run in the sandbox."
            )
        dataset = str(task.get("dataset_path") or "")
        if config.data and dataset and dataset not in FILE_KINDS and not (Path(config.data) / dataset).is_dir():
            raise MathQuarryError(
                f"harness.data: {task.get('task', name)} needs a copy of the data set {dataset} at {Path(config.data) / dataset}. "
                f"Get one with `hf download --repo-type dataset {dataset} --local-dir {dataset}` in that folder."
            )


def _check_room(name: str, index: Mapping[str, Any], config: HarnessConfig, model: Any) -> None:
    """Check that the longest answers leave room for questions in the model's context."""
    for task in _leaves(name, index):
        if task.get("output_type", "generate_until") == "generate_until":
            longest = config.max_tokens or (task.get("generation_kwargs") or {}).get("max_gen_toks", model.max_gen_toks)
            if longest >= model.max_length:
                raise MathQuarryError(
                    f"harness.tasks: {task.get('task', name)} allows answers of {longest} tokens, but the model's context is "
                    f"{model.max_length}. Lower harness.max_tokens."
                )


def _leaves(name: str, index: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configs of the single tasks of a benchmark, without loading their functions."""
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = index[name]
    if entry.tags and entry.yaml_path is None:
        for member in sorted(entry.tags):
            yield from _leaves(member, index)
        return
    config = load_yaml(entry.yaml_path, resolve_func=False)
    members = config.get("task")
    if not isinstance(members, list):
        yield config
        return
    for member in members:
        changes = member if isinstance(member, dict) else {}
        referred = changes.get("group") or changes.get("task") or member
        if isinstance(referred, str) and referred in index:
            yield from ({**leaf, **{key: changes[key] for key in changes if key != "group"}} for leaf in _leaves(referred, index))
        else:
            yield changes


def _model(config: HarnessConfig, policy: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return HFLM(
        pretrained=str(policy.resolve()), trust_remote_code=False, device=device, dtype=config.precision, batch_size=config.batch_size
    )


def _evaluate(name: str, config: HarnessConfig, model: Any, manager: Any, sandbox: Sandbox | None) -> dict[str, Any]:
    """Return the harness's results for one benchmark, as JSON."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.utils import handle_non_serializable

    try:
        if name in CODE_TASKS:
            assert sandbox is not None, "a sandbox is started for benchmarks with programs"
            tasks: list[Any] = [_code_task(name, manager.task_index[name].yaml_path, sandbox)]
        else:
            loaded = manager.load([name])
            tasks = [loaded["groups"][name]] if name in loaded["groups"] else list(loaded["tasks"].values())
    except (OSError, ValueError) as error:
        raise MathQuarryError(f"harness: the data of {name} cannot be read: {error}") from error
    found = simple_evaluate(
        model,
        tasks=tasks,
        task_manager=manager,
        num_fewshot=config.num_fewshot,
        limit=config.limit,
        gen_kwargs={"max_gen_toks": config.max_tokens} if config.max_tokens else None,
        random_seed=config.seed,
        numpy_random_seed=config.seed,
        torch_random_seed=config.seed,
        fewshot_random_seed=config.seed,
    )
    kept = {
        key: found[key] for key in ("results", "groups", "group_subtasks", "n-samples", "n-shot", "versions", "samples") if key in found
    }
    result: dict[str, Any] = json.loads(json.dumps(kept, default=handle_non_serializable))
    return result


def _code_task(name: str, definition: Path, sandbox: Sandbox) -> Any:
    """Return the harness's task with its prompts and stop strings. Programs are scored in the sandbox instead."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(definition, resolve_func=False)
    for key in ("unsafe_code", "filter_list", "tag"):
        config.pop(key, None)
    if name == "mbpp":
        config["fewshot_config"] = {"sampler": "first_n", "split": "prompt", "process_docs": _mbpp_examples}
    config["metric_list"] = [{"metric": "pass@1", "aggregation": "mean", "higher_is_better": True}]
    config["process_results"] = lambda document, results: {"pass@1": float(passes(sandbox, CODE_TASKS[name](document, results[0])))}
    return ConfigurableTask(config=config)


def _mbpp_examples(documents: Any) -> list[dict[str, Any]]:
    chosen = [document for document in documents if document["task_id"] in MBPP_EXAMPLES]
    return [{**document, "is_fewshot": True} for document in sorted(chosen, key=lambda document: document["task_id"])]


def passes(sandbox: Sandbox, program: str) -> bool:
    """Whether a program runs to its end: a line added after it prints a word that the program cannot know in advance."""
    word = secrets.token_hex(16)
    result = sandbox.run(f"{program}\nprint('\\n{word}')")
    return result.error is None and result.stdout.rstrip().endswith(word)


def _top(benchmark: str, part: Mapping[str, Any]) -> list[str]:
    """Names of the results that stand for the whole benchmark: its own, or those of the tasks with its tag."""
    return [benchmark] if benchmark in part["results"] else list(part["results"])


def _scores(entry: str, part: Mapping[str, Any]) -> Iterator[tuple[str, float | int]]:
    """Yield the metrics of one entry by name. The harness writes `metric,filter` and `metric_stderr,filter`."""
    for name, value in part["results"][entry].items():
        metric, comma, _ = name.partition(",")
        if comma and isinstance(value, (int, float)):
            yield f"{entry} {metric.removesuffix('_stderr')}{'_se' if metric.endswith('_stderr') else ''}", round(float(value), 6)
    if entry in part.get("n-samples", {}):
        yield f"{entry} questions", int(part["n-samples"][entry]["effective"])


def _rows(benchmark: str, samples: Mapping[str, list[dict[str, Any]]]) -> Iterator[dict[str, str]]:
    for task, entries in samples.items():
        for sample in entries:
            first = next(iter(sample["arguments"].values())) if isinstance(sample["arguments"], dict) else sample["arguments"][0]
            prompt = next(iter(first.values())) if isinstance(first, dict) else first[0]
            fields = {
                "benchmark": benchmark,
                "task": task,
                "filter": sample["filter"],
                "document": sample["doc"],
                "prompt": prompt,
                "responses": sample["resps"],
                "target": sample["target"],
                "metrics": {metric: sample[metric] for metric in sample["metrics"]},
            }
            yield {name: _as_text(value)[:MOST_TEXT] for name, value in fields.items()}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
