"""Stage `grpo`: one iteration of Group Relative Policy Optimization (paper Algorithm 1, lines 3 to 10), or of another method.

reference := policy; then M times: get completions for the questions of a batch, compute their rewards, compute the gradient coefficient of
each token, make mu updates. In GRPO: sample G completions per question, score them with the reward model, compute group-relative
advantages, update by Eq. 3. Line 11, which continues the reward model, is stage `reward`.

Our choices, where the paper does not say:
1. completions that were truncated at `max_tokens` are scored and trained on like all others;
2. probabilities (old, new and reference) are those at the sampling temperature;
3. a group whose rewards are all equal has advantage 0; only the KL term acts on it.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.checker import Checker
from mathquarry.data.problems.problem import problems_of, read_problems
from mathquarry.data.programs.sandbox import make_sandbox
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.adapters import adapter_summary, adapters_of
from mathquarry.models.policy.checkpoint import load_tokenizer, read_prompt_style, save
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.questions import read_questions
from mathquarry.models.ranks.distributed import whole_weights
from mathquarry.models.ranks.launch import launch
from mathquarry.models.rl.collapse import check_collapse, reward_hacking
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.keep import Best, scores_until
from mathquarry.models.rl.loop import Loop
from mathquarry.models.rl.method import check_method
from mathquarry.models.rl.paradigm import read_example_completions
from mathquarry.models.rl.rollout_table import join_rollouts, write_rollouts
from mathquarry.models.rl.weights import Models
from mathquarry.models.rollout.engine import context_limit
from mathquarry.models.rollout.finished import warn_if_few_finish
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.tools import ToolRollouts
from mathquarry.models.train.state import Checkpoints

Summary = dict[str, float | int | str]

SHOWN = ("reward", "accuracy", "kl", "test_accuracy", "tokens_per_second")
"""Metrics that stand beside the progress of a run."""


def grpo_iteration(
    config: GRPOConfig,
    policy: Path,
    reward: Path | None,
    problems: Path,
    iteration: int,
    workspace: Workspace,
    examples: Path | None = None,
) -> Summary:
    """Train `policy` for `config.steps` steps. The policy at the start is the reference.

    `policy` and `reward` are checkpoint folders, `problems` holds `train.jsonl`, `examples` (only for `paradigm.data = "examples"`) holds
    `examples.jsonl`. `iteration` counts from 1. Writes `workspace.out / "model"` and `workspace.out / "rollouts.parquet"`, logs the
    metrics of each step, and writes a checkpoint to `workspace.scratch / "grpo"` every `checkpoint_steps`. A run that is called again
    continues after it. On a CPU with the same number of ranks, the result is then bitwise the same.

    Returns the metrics of the last step and counts. Raises `MathQuarryError` if an input cannot be read, if the config has no gradient, if
    engine and trainer disagree after a sync, if the gradient is not finite, or if the run has collapsed.
    """
    check_method(config)
    arguments = (config, policy, reward, problems, iteration, examples)
    return _iterate(workspace, *arguments) if config.ranks.size == 1 else launch(_iterate, arguments, config.ranks, workspace, "grpo")


def _iterate(
    workspace: Workspace, config: GRPOConfig, policy: Path, reward: Path | None, problems: Path, iteration: int, examples: Path | None
) -> Summary:
    """Run `grpo_iteration` on one rank. Only the first rank writes."""
    tokenizer = load_tokenizer(policy)
    models = Models.load(config, policy, reward)
    ranks = models.ranks
    style = read_prompt_style(policy, tokenizer)
    prompter = Prompter(tokenizer, style)
    limit = context_limit(models.policy.model.config)
    if config.paradigm.data == "examples":
        assert examples is not None, "training on worked solutions needs their folder"
        asked = {problem.id for problem in problems_of(read_problems(problems / "train.jsonl"), config.problem_sets)}
        questions, solutions = read_example_completions(examples, prompter, limit, asked if config.problem_sets else None)
        left_out = 0
    else:
        questions, left_out = read_questions(problems / "train.jsonl", prompter, limit, config.format, config.problem_sets)
        solutions = None
    tested = read_questions(problems / "test.jsonl", prompter, limit, config.format)[0] if config.evaluate_steps else []
    held_out = tested[: config.evaluate_questions]
    checkpoints = Checkpoints(workspace.scratch / "grpo", ranks, config.background_checkpoints)
    done = _resume(workspace, models, checkpoints)
    sampler = models.policy if config.paradigm.data == "online" else models.reference
    # An engine that samples while the policy learns has weights of its own.
    live = sampler.model if ranks.size == 1 and not config.rollout.ahead else None
    with (
        closing(make_engine(config.rollout, policy, live_model=live, adapters=adapters_of(models.policy.model))) as engine,
        Checker(config.grade) as checker,
        workspace.progress.track(f"grpo {iteration}", config.steps, "step", done) as bar,
        checkpoints,
        ExitStack() as stack,
    ):
        tools = None
        if config.format == "tool":
            tools = ToolRollouts(tokenizer, stack.enter_context(make_sandbox(config.tools.programs)), config.tools)
        loop = Loop(config, iteration, tokenizer, questions, solutions, held_out, models, engine, checker, workspace.scratch, tools)
        stack.enter_context(closing(loop))
        loop.begin(done)
        best = (
            Best(workspace.scratch / "best", scores_until(workspace.metrics.read(), done), tokenizer, style, policy)
            if config.keep == "best"
            else None
        )
        if done == 0 and held_out:
            accuracy = loop.test_accuracy()
            if ranks.is_first:
                workspace.metrics.log(0, test_accuracy=accuracy)
            if best is not None:
                best.add(0, accuracy, models, None)
        history = [record["values"] for record in workspace.metrics.read() if "reward" in record["values"]]
        last, hacked = config.steps, None
        for step in range(done + 1, config.steps + 1):
            rollouts, metrics = loop.step(step)
            if ranks.is_first:
                if step == done + 1:
                    warn_if_few_finish(f"grpo, step {step}", sum(rollouts.finished) / len(rollouts.finished), config.rollout.max_tokens)
                write_rollouts(_part(workspace, step), rollouts, iteration, step)
                workspace.metrics.log(step, **metrics)
            history.append({name: value for name, value in metrics.items() if value is not None})
            bar.note(**{name: metrics.get(name) for name in SHOWN})
            bar.advance()
            check_collapse(history, config.collapse)
            hacked = reward_hacking(history, config.collapse)
            if hacked and best is None:
                raise MathQuarryError(hacked)
            if best is not None and (accuracy_now := metrics.get("test_accuracy")) is not None:
                best.add(step, accuracy_now, models, checkpoints.newest())
            if hacked:
                last = step
                break
            checkpoints.poll()
            if step % config.checkpoint_steps == 0 or step == config.steps:
                if loop.ahead is not None:
                    loop.ahead.save(step, checkpoints.newest())
                checkpoints.save(step, models.policy.model, models.optimizer, models.others)
        weights = whole_weights(models.policy.model, ranks) if ranks.size > 1 and best is None else None
        ranks.barrier()  # closing the engine can destroy the process group
    if not ranks.is_first:
        return {}
    kept = {}
    if best is None:
        save(models.policy.model, tokenizer, workspace.out / "model", style, weights, policy)
    else:
        kept = best.publish(workspace.out / "model")
    stopped = {"stopped": hacked} if hacked else {}
    completions = join_rollouts([_part(workspace, step) for step in range(1, last + 1)], workspace.out / "rollouts.parquet")
    counts = {"steps": last, "completions": completions, "questions_too_long": left_out, **adapter_summary(models.policy.model)}
    return {**counts, **_summarise(workspace, last), **kept, **stopped}


def _part(workspace: Workspace, step: int) -> Path:
    return workspace.scratch / "rollouts" / f"step-{step:06d}.parquet"


def _resume(workspace: Workspace, models: Models, checkpoints: Checkpoints) -> int:
    """Load the latest checkpoint, if any, and drop everything that was logged after it. Returns its step, or 0."""
    done = checkpoints.newest() or 0
    if done:
        checkpoints.load(done, models.policy.model, models.optimizer, models.others)
    if models.ranks.is_first:
        workspace.metrics.rewind(done if done else -1)
        for part in (workspace.scratch / "rollouts").glob("step-*.parquet"):
            if int(part.stem.removeprefix("step-")) > done:
                part.unlink()
    models.ranks.barrier()
    return done


def _summarise(workspace: Workspace, steps: int) -> dict[str, float]:
    """Return means over the first and the last tenth of the steps, and the last score on held-out questions."""
    records = [record["values"] for record in workspace.metrics.read() if "reward" in record["values"]]
    window = max(1, steps // 10)
    summary: dict[str, float] = {}
    for name in ("reward", "accuracy", "reward_auc", "kl", "entropy", "completion_tokens"):
        for when, some in (("first", records[:window]), ("last", records[-window:])):
            values = [metrics[name] for metrics in some if name in metrics]
            if values:
                summary[f"{when}_{name}"] = round(sum(values) / len(values), 6)
    tested = [metrics["test_accuracy"] for metrics in records if "test_accuracy" in metrics]
    return {**summary, "last_test_accuracy": tested[-1]} if tested else summary
