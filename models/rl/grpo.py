"""Stage `grpo`: one iteration of Group Relative Policy Optimization (paper Algorithm 1, lines 3 to 10), or of another method in its frame.

reference := policy; then M times: draw outputs for the questions of a batch, judge them, compute each token's gradient coefficient, make
mu updates. For GRPO that is: sample G outputs a question, score them with the reward model, compute group-relative advantages, update by
Eq. 3. Line 11, the reward model's continuation, is stage `reward`.

What the paper leaves open, our choice:
1. outputs that were cut at `max_tokens` are scored as they are and trained on like all others;
2. probabilities, old, new and reference, are those at the sampling temperature;
3. a group whose rewards are all alike has advantage 0 and only feels the KL term.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import torch

from data.files import atomic_path
from data.grade.checker import Checker
from data.workspace import Workspace
from models.checkpoint import load_tokenizer, read_prompt_style, save
from models.config import GRPOConfig
from models.distributed import whole_weights
from models.launch import launch
from models.prompts import Prompter
from models.questions import read_questions
from models.rl.collapse import check_collapse
from models.rl.loop import Loop
from models.rl.paradigm import check_method, read_example_outputs
from models.rl.rollouts import join_rollouts, write_rollouts
from models.rl.weights import Models
from models.rollout.engine import context_limit, make_engine

CHECKPOINT = "checkpoint.pt"
Summary = dict[str, float | int | str]


def grpo_iteration(
    config: GRPOConfig, policy: Path, reward: Path | None, problems: Path, iteration: int, space: Workspace, examples: Path | None = None
) -> Summary:
    """Train `policy` for `config.steps` steps; the policy as it comes in is the reference.

    `policy` and `reward` are checkpoint folders, `problems` holds `train.jsonl`, `examples` (for `paradigm.data = "examples"` alone)
    `examples.jsonl`; `iteration` counts from 1. Writes `space.out / "model"` and `space.out / "rollouts.parquet"`, logs the figures of
    each step, and keeps a checkpoint in `space.scratch` every `checkpoint_steps`: a run that is called again continues after it, and on a
    CPU ends with the same bytes.

    Returns the figures of the last step and counts. Raises `MathQuarryError` when an input cannot be read, when the config leaves no
    gradient, when engine and trainer disagree after a sync, when the gradient is not finite, or when the run has collapsed.
    """
    check_method(config)
    arguments = (config, policy, reward, problems, iteration, examples)
    return _iterate(space, *arguments) if config.ranks.size == 1 else launch(_iterate, arguments, config.ranks, space, "grpo")


def _iterate(
    space: Workspace, config: GRPOConfig, policy: Path, reward: Path | None, problems: Path, iteration: int, examples: Path | None
) -> Summary:
    """`grpo_iteration` on one rank. Only the first one writes."""
    tokenizer = load_tokenizer(policy)
    models = Models.load(config, policy, reward)
    ranks = models.ranks
    style = read_prompt_style(policy, tokenizer)
    prompter = Prompter(tokenizer, style)
    limit = context_limit(models.policy.model.config)
    if config.paradigm.data == "examples":
        assert examples is not None, "training on worked solutions needs their folder"
        questions, solutions = read_example_outputs(examples, prompter, limit)
        left_out = 0
    else:
        questions, left_out = read_questions(problems / "train.jsonl", prompter, limit)
        solutions = None
    held_out = read_questions(problems / "test.jsonl", prompter, limit)[0][: config.evaluate_questions] if config.evaluate_steps else []
    done = _resume(space, models)
    sampler = models.policy if config.paradigm.data == "policy" else models.reference
    with (
        closing(make_engine(config.rollout, policy, live_model=sampler.model if ranks.size == 1 else None)) as engine,
        Checker(config.grade) as checker,
        space.progress.track(f"grpo {iteration}", config.steps, "step", done) as bar,
    ):
        loop = Loop(config, iteration, tokenizer, questions, solutions, held_out, models, engine, checker, space.scratch)
        if ranks.size > 1:
            loop.sync(models.policy if config.paradigm.data == "policy" else models.reference, f"iteration {iteration}, step {done}")
        if config.paradigm.data == "policy":
            loop.probe(f"iteration {iteration}, step {done}")
        if done == 0 and held_out:
            accuracy = loop.test_accuracy()
            if ranks.is_first:
                space.metrics.log(0, test_accuracy=accuracy)
        history = [record["values"] for record in space.metrics.read() if "reward" in record["values"]]
        for step in range(done + 1, config.steps + 1):
            rollouts, figures = loop.step(step)
            if ranks.is_first:
                write_rollouts(_part(space, step), rollouts, iteration, step)
                space.metrics.log(step, **figures)
            history.append({name: value for name, value in figures.items() if value is not None})
            bar.note(**{name: f"{figures[name] or 0:.3f}" for name in ("reward", "accuracy", "kl") if name in figures})
            bar.advance()
            check_collapse(history, config.collapse)
            if step % config.checkpoint_steps == 0 or step == config.steps:
                _write_checkpoint(space, step, models)
        weights = whole_weights(models.policy.model, ranks) if ranks.size > 1 else None
        ranks.barrier()  # closing the engine may end the process group
    if not ranks.is_first:
        return {}
    save(models.policy.model, tokenizer, space.out / "model", style, weights)
    outputs = join_rollouts([_part(space, step) for step in range(1, config.steps + 1)], space.out / "rollouts.parquet")
    return {"steps": config.steps, "outputs": outputs, "questions_too_long": left_out, **_summarise(space, config.steps)}


def _part(space: Workspace, step: int) -> Path:
    return space.scratch / "rollouts" / f"step-{step:06d}.parquet"


def _write_checkpoint(space: Workspace, step: int, models: Models) -> None:
    """All that the next step depends on."""
    state = models.state()
    if models.ranks.is_first:
        with atomic_path(space.scratch / CHECKPOINT) as temporary:
            torch.save({"step": step, **state}, temporary)


def _resume(space: Workspace, models: Models) -> int:
    """Load the checkpoint, if there is one, and drop what was recorded after it. Returns its step, or 0."""
    file = space.scratch / CHECKPOINT
    done = 0
    if file.exists():
        state = torch.load(file, map_location="cpu", weights_only=True)
        models.load_state(state)
        done = state["step"]
    if models.ranks.is_first:
        space.metrics.rewind(done if done else -1)
        for part in (space.scratch / "rollouts").glob("step-*.parquet"):
            if int(part.stem.removeprefix("step-")) > done:
                part.unlink()
    models.ranks.barrier()
    return done


def _summarise(space: Workspace, steps: int) -> dict[str, float]:
    """Means over the first and the last tenth of the steps, and the last score on held-out questions."""
    records = [record["values"] for record in space.metrics.read() if "reward" in record["values"]]
    window = max(1, steps // 10)
    summary: dict[str, float] = {}
    for name in ("reward", "accuracy", "reward_auc", "kl", "entropy", "output_tokens"):
        for when, some in (("first", records[:window]), ("last", records[-window:])):
            values = [figures[name] for figures in some if name in figures]
            if values:
                summary[f"{when}_{name}"] = round(sum(values) / len(values), 6)
    tested = [figures["test_accuracy"] for figures in records if "test_accuracy" in figures]
    return {**summary, "last_test_accuracy": tested[-1]} if tested else summary
