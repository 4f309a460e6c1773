"""Stage `grpo`: one iteration of Group Relative Policy Optimization (paper Algorithm 1, lines 3 to 10).

reference := policy; then M times: sample G outputs for each question of a batch, score them with the reward model, compute group-relative
advantages, make mu updates of Eq. 3. Line 11, the reward model's continuation, is stage `reward`.

What the paper leaves open, our choice:
1. outputs that were cut at `max_tokens` are scored as they are and trained on like all others;
2. probabilities, old, new and reference, are those at the sampling temperature;
3. a group whose rewards are all alike has advantage 0 and only feels the KL term.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.errors import MathQuarryError
from data.files import atomic_path
from data.grade.checker import Checker
from data.workspace import Workspace
from models.checkpoint import load_policy, load_reward, load_tokenizer, read_prompt_style, save
from models.config import GRPOConfig
from models.label import decode_outputs
from models.prompts import Prompter
from models.questions import Question, read_questions
from models.reward import RewardModel
from models.rl.rollouts import (
    Rollouts,
    choose_questions,
    join_rollouts,
    measure_rollouts,
    sampling_seeds,
    score_outputs,
    write_rollouts,
)
from models.rl.update import Experience, make_optimizer, update_policy
from models.rollout.engine import RolloutEngine, context_limit, make_engine
from models.rollout.probe import check
from models.steps import StepMarker

CHECKPOINT = "checkpoint.pt"
PROBE_PROMPTS = 4
Summary = dict[str, float | int | str]


def grpo_iteration(config: GRPOConfig, policy: Path, reward: Path, problems: Path, iteration: int, space: Workspace) -> Summary:
    """Train `policy` for `config.steps` steps against `reward`; the policy as it comes in is the reference.

    `policy` and `reward` are checkpoint folders, `problems` holds `train.jsonl`, `iteration` counts from 1. Writes `space.out / "model"`
    and `space.out / "rollouts.parquet"`, logs the figures of each step, and keeps a checkpoint in `space.scratch` every
    `checkpoint_steps`: a run that is called again continues after it, and on a CPU ends with the same bytes.

    Returns the figures of the last step and counts. Raises `MathQuarryError` when an input cannot be read, when the config leaves no
    group-relative advantage, when engine and trainer disagree after a sync, or when the gradient is not finite.
    """
    _refuse_degenerate(config)
    tokenizer = load_tokenizer(policy)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, reference, judge = load_policy(policy), load_policy(policy).requires_grad_(False), load_reward(reward)
    for module in (model, reference, judge):
        module.to(device)  # type: ignore[arg-type]
    style = read_prompt_style(policy, tokenizer)
    questions, left_out = read_questions(problems / "train.jsonl", Prompter(tokenizer, style), context_limit(model.config))
    optimizer = make_optimizer(model, config)
    done = _resume(space, model, optimizer)
    with (
        closing(make_engine(config.rollout, policy, live_model=model)) as engine,
        Checker(config.grade) as checker,
        space.progress.track(f"grpo {iteration}", config.steps, "step", done) as bar,
    ):
        loop = _Loop(config, iteration, tokenizer, questions, RewardModel(judge, config.micro_batch_tokens, config.precision), checker)
        loop.probe(engine, model, f"iteration {iteration}, step {done}")
        for step in range(done + 1, config.steps + 1):
            rollouts, figures = loop.step(step, engine, model, reference, optimizer)
            write_rollouts(_part(space, step), rollouts, iteration, step)
            space.metrics.log(step, **figures)
            bar.note(reward=f"{figures['reward']:.3f}", accuracy=f"{figures['accuracy']:.3f}", kl=f"{figures['kl']:.4f}")
            bar.advance()
            if step % config.checkpoint_steps == 0 or step == config.steps:
                _write_checkpoint(space, step, model, optimizer)
    save(model, tokenizer, space.out / "model", style)
    outputs = join_rollouts([_part(space, step) for step in range(1, config.steps + 1)], space.out / "rollouts.parquet")
    return {"steps": config.steps, "outputs": outputs, "questions_too_long": left_out, **_summarise(space, config.steps)}


class _Loop:
    """What all steps of an iteration share, and the step itself."""

    def __init__(
        self,
        config: GRPOConfig,
        iteration: int,
        tokenizer: PreTrainedTokenizerBase,
        questions: list[Question],
        reward: RewardModel,
        checker: Checker,
    ) -> None:
        self.config, self.iteration, self.tokenizer, self.questions = config, iteration, tokenizer, questions
        self.reward, self.checker, self.marker = reward, checker, StepMarker(tokenizer)
        self.probe_prompts = [question.prompt for question in questions[:PROBE_PROMPTS]]

    def step(
        self,
        step: int,
        engine: RolloutEngine,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
    ) -> tuple[Rollouts, dict[str, float | None]]:
        """Sample, score, update, hand the new weights to the engine and check that they arrived. Returns the outputs and all figures."""
        seconds: dict[str, float] = {}
        with _timed(seconds, "sample"):
            questions, outputs, finished = self.sample(step, engine)
        with _timed(seconds, "score"):
            rollouts = self.score(questions, outputs, finished)
        with _timed(seconds, "update"):
            experience = Experience(rollouts.prompts, rollouts.outputs, rollouts.advantages_BT)
            updated = update_policy(policy, reference, optimizer, experience, self.config)
        with _timed(seconds, "sync"):
            version = f"iteration {self.iteration}, step {step}"
            engine.load_live(policy, version)
            probed = self.probe(engine, policy, version)
        total = sum(seconds.values())
        return rollouts, {
            **measure_rollouts(rollouts),
            **updated,
            **probed,
            **{f"seconds_{name}": round(value, 4) for name, value in seconds.items()},
            "tokens_per_second": round(sum(map(len, outputs)) / total, 1),
        }

    def sample(self, step: int, engine: RolloutEngine) -> tuple[list[Question], list[list[int]], list[bool]]:
        """Questions of the step, their outputs (the G of a question in a row) and which of these ended by themselves."""
        config = self.config
        questions = choose_questions(self.questions, config, self.iteration, step)
        groups = engine.generate(
            [question.prompt for question in questions],
            n=config.outputs_per_question,
            temperature=config.rollout.temperature,
            max_tokens=config.rollout.max_tokens,
            seeds=sampling_seeds(config, self.iteration, step),
        )
        outputs = [output for group in groups for output in group]
        return questions, [output.tokens for output in outputs], [output.finished for output in outputs]

    def score(self, questions: list[Question], outputs: list[list[int]], finished: list[bool]) -> Rollouts:
        """Rewards, advantages and, only to be measured, the checker's verdicts."""
        size = self.config.outputs_per_question
        asked = [question for question in questions for _ in range(size)]
        texts = decode_outputs(self.tokenizer, outputs)
        verdicts = self.checker.grade_many([(text, question.problem.answer) for text, question in zip(texts, asked, strict=True)])
        correct = [ended and verdict.correct for ended, verdict in zip(finished, verdicts, strict=True)]
        ends = [self.marker.ends(output) for output in outputs]
        prompts = [question.prompt for question in asked]
        rewards, advantages_BT = score_outputs(self.reward, prompts, outputs, ends, size, self.config.supervision)
        return Rollouts(questions, outputs, finished, texts, correct, ends, rewards, advantages_BT)

    def probe(self, engine: RolloutEngine, policy: PreTrainedModel, version: str) -> dict[str, float]:
        """Compare trainer and engine after a sync, on the same prompts every time."""
        agreement = check(
            engine,
            policy,
            self.probe_prompts,
            temperature=self.config.rollout.temperature,
            tolerance=self.config.probe_tolerance,
            version=version,
        )
        return {"probe_mean": agreement.mean, "probe_largest": agreement.largest}


def _refuse_degenerate(config: GRPOConfig) -> None:
    if config.outputs_per_question < 2:
        raise MathQuarryError("grpo.outputs_per_question is 1; an advantage relative to the group needs at least 2 outputs.")
    if config.rollout.temperature == 0:
        raise MathQuarryError("grpo.rollout.temperature is 0: all outputs of a question would be the same. Set it above 0.")


def _part(space: Workspace, step: int) -> Path:
    return space.scratch / "rollouts" / f"step-{step:06d}.parquet"


def _write_checkpoint(space: Workspace, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """All that the next step depends on. No generator state: every random number is derived from (seed, iteration, step)."""
    with atomic_path(space.scratch / CHECKPOINT) as temporary:
        torch.save({"step": step, "policy": model.state_dict(), "optimizer": optimizer.state_dict()}, temporary)


def _resume(space: Workspace, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> int:
    """Load the checkpoint, if there is one, and drop what was recorded after it. Returns its step, or 0."""
    file = space.scratch / CHECKPOINT
    done = 0
    if file.exists():
        state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    space.metrics.rewind(done)
    for part in (space.scratch / "rollouts").glob("step-*.parquet"):
        if int(part.stem.removeprefix("step-")) > done:
            part.unlink()
    return done


def _summarise(space: Workspace, steps: int) -> dict[str, float]:
    """Means over the first and the last tenth of the steps."""
    records = [record["values"] for record in space.metrics.read() if "kl" in record["values"]]
    window = max(1, steps // 10)
    summary: dict[str, float] = {}
    for name in ("reward", "accuracy", "kl", "entropy", "output_tokens"):
        for when, some in (("first", records[:window]), ("last", records[-window:])):
            summary[f"{when}_{name}"] = round(sum(values[name] for values in some) / len(some), 6)
    return summary


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
