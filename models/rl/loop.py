"""One step of any method: draw outputs, judge them, turn judgements into coefficients, update, hand the new weights to the engine."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.grade.checker import Checker
from models.checkpoint import load_policy, load_reward
from models.config import GRPOConfig
from models.label import decode_outputs
from models.questions import Question
from models.reward import RewardModel
from models.rl.critic import Critic
from models.rl.paradigm import Judged, coefficients
from models.rl.rollouts import Rollouts, choose_questions, measure_rollouts, sampling_seeds
from models.rl.update import Experience, make_optimizer, update_policy
from models.rollout.engine import RolloutEngine
from models.rollout.probe import check
from models.steps import StepMarker

PROBE_PROMPTS = 4


@dataclass
class Models:
    """Everything with weights: what is trained (policy and, for PPO, the critic) and what is not."""

    policy: PreTrainedModel
    optimizer: torch.optim.Optimizer
    reference: PreTrainedModel
    judge: RewardModel | None
    critic: Critic | None

    @classmethod
    def load(cls, config: GRPOConfig, policy: Path, reward: Path | None, device: torch.device) -> Models:
        """Load and place what the method needs."""

        def placed(model: PreTrainedModel) -> PreTrainedModel:
            return model.to(device)  # type: ignore[arg-type]

        trained = placed(load_policy(policy))
        needs_reward = config.paradigm.reward == "model"
        assert reward is not None or not needs_reward, "a method with a reward model needs its folder"
        judge = RewardModel(placed(load_reward(reward)), config.micro_batch_tokens, config.precision) if reward and needs_reward else None
        critic = Critic(placed(load_reward(reward)), config) if reward and config.paradigm.coefficient == "gae" else None
        return cls(trained, make_optimizer(trained, config), placed(load_policy(policy)).requires_grad_(False), judge, critic)

    def state(self) -> dict[str, dict]:
        """What a checkpoint keeps. No generator state: every random number is derived from (seed, iteration, step)."""
        kept = {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.critic is not None:
            kept |= {"critic": self.critic.model.state_dict(), "critic_optimizer": self.critic.optimizer.state_dict()}
        return kept

    def load_state(self, state: dict[str, dict]) -> None:
        """Take back what `state` gave."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.critic is not None:
            self.critic.model.load_state_dict(state["critic"])
            self.critic.optimizer.load_state_dict(state["critic_optimizer"])


@dataclass
class Loop:
    """What all steps of an iteration share, and the step itself. `solutions` are those of the questions, where outputs are not sampled."""

    config: GRPOConfig
    iteration: int
    tokenizer: PreTrainedTokenizerBase
    questions: list[Question]
    solutions: list[list[int]] | None
    held_out: list[Question]
    models: Models
    engine: RolloutEngine
    checker: Checker
    marker: StepMarker = field(init=False)

    def __post_init__(self) -> None:
        self.marker = StepMarker(self.tokenizer)

    def step(self, step: int) -> tuple[Rollouts, dict[str, float | None]]:
        """Draw, judge, update, hand the new weights to the engine and check that they arrived. Returns the outputs and all figures."""
        models, seconds = self.models, _Seconds()
        with seconds.of("sample"):
            drawn = self.draw(step)
        with seconds.of("score"):
            judged, texts, correct = self.judge(drawn)
        with seconds.of("update"):
            advantages_BT, own = coefficients(judged, self.config, models.policy, models.reference, models.critic)
            online = self.config.paradigm.data == "policy"
            experience = Experience(judged.prompts, judged.outputs, advantages_BT, drawn.logprobs if online else None)
            updated = update_policy(models.policy, models.reference, models.optimizer, experience, self.config)
        probed: dict[str, float] = {}
        with seconds.of("sync"):
            if online:
                version = f"iteration {self.iteration}, step {step}"
                self.engine.load_live(models.policy, version)
                probed = self.probe(version)
        tested: dict[str, float] = {}
        if self.held_out and (step % (self.config.evaluate_steps or 1) == 0 or step == self.config.steps):
            with seconds.of("evaluate"):
                tested = {"test_accuracy": self.test_accuracy()}
        rollouts = Rollouts(
            drawn.questions,
            drawn.outputs,
            drawn.logprobs,
            drawn.finished,
            texts,
            correct,
            [list(ends) for ends in judged.step_ends],
            [list(row) for row in judged.rewards],
            advantages_BT,
        )
        tokens = sum(map(len, drawn.outputs))
        return rollouts, {
            **updated,
            **own,
            **measure_rollouts(rollouts),
            **probed,
            **tested,
            **seconds.figures(tokens),
            "peak_gib": _peak_gib(),
        }

    def draw(self, step: int) -> Drawn:
        """The outputs of a step, the G of a question in a row."""
        config, size = self.config, self.config.outputs_per_question
        if self.solutions is not None:
            pairs = list(zip(self.questions, self.solutions, strict=True))
            chosen = choose_questions(pairs, config, self.iteration, step, config.questions_per_step * size)
            return Drawn([question for question, _ in chosen], [output for _, output in chosen], None, [True] * len(chosen))
        questions = choose_questions(self.questions, config, self.iteration, step)
        groups = self.engine.generate(
            [question.prompt for question in questions],
            n=size,
            temperature=config.rollout.temperature,
            max_tokens=config.rollout.max_tokens,
            seeds=sampling_seeds(config, self.iteration, step),
        )
        outputs = [output for group in groups for output in group]
        return Drawn(
            questions,
            [output.tokens for output in outputs],
            [output.logprobs for output in outputs],
            [output.finished for output in outputs],
        )

    def judge(self, drawn: Drawn) -> tuple[Judged, list[str], list[bool]]:
        """Rewards; and the texts with the checker's verdicts, which are the reward only where the method's reward is the rule."""
        size = len(drawn.outputs) // len(drawn.questions)
        asked = [question for question in drawn.questions for _ in range(size)]
        texts = decode_outputs(self.tokenizer, drawn.outputs)
        verdicts = self.checker.grade_many([(text, question.problem.answer) for text, question in zip(texts, asked, strict=True)])
        correct = [ended and verdict.correct for ended, verdict in zip(drawn.finished, verdicts, strict=True)]
        ends = [self.marker.ends(output) for output in drawn.outputs]
        prompts = [question.prompt for question in asked]
        if self.models.judge is not None:
            by_step = self.config.supervision == "process" and self.config.paradigm.coefficient == "group"
            rewards = self.models.judge.score(prompts, drawn.outputs, ends if by_step else [row[-1:] for row in ends])
        else:
            rewards = [[1.0 if self.config.paradigm.reward == "none" else float(right)] for right in correct]
        return Judged(prompts, drawn.outputs, ends, rewards, size), texts, correct

    def test_accuracy(self) -> float:
        """Greedy accuracy of the policy on the held-out questions."""
        models, online = self.models, self.config.paradigm.data == "policy"
        if not online:
            self.engine.load_live(models.policy, "evaluated")
        answers = self.engine.generate(
            [question.prompt for question in self.held_out],
            n=1,
            temperature=0.0,
            max_tokens=self.config.rollout.max_tokens,
            seeds=[0] * len(self.held_out),
        )
        if not online:
            self.engine.load_live(models.reference, "start")
        texts = decode_outputs(self.tokenizer, [answer.tokens for (answer,) in answers])
        verdicts = self.checker.grade_many([(text, q.problem.answer) for text, q in zip(texts, self.held_out, strict=True)])
        right = [answer.finished and verdict.correct for (answer,), verdict in zip(answers, verdicts, strict=True)]
        return sum(right) / len(right)

    def probe(self, version: str) -> dict[str, float]:
        """Compare trainer and engine after a sync, on the same prompts every time."""
        agreement = check(
            self.engine,
            self.models.policy,
            [question.prompt for question in self.questions[:PROBE_PROMPTS]],
            temperature=self.config.rollout.temperature,
            tolerance=self.config.probe_tolerance,
            version=version,
        )
        return {"probe_mean": agreement.mean, "probe_largest": agreement.largest}


@dataclass(frozen=True)
class Drawn:
    """Outputs as they came from the data source."""

    questions: list[Question]
    outputs: list[list[int]]
    logprobs: list[list[float]] | None
    finished: list[bool]


class _Seconds:
    """How long each phase of a step took."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent[phase] = time.perf_counter() - start

    def figures(self, tokens: int) -> dict[str, float]:
        """Seconds of each phase, and output tokens a second in each and in the whole step."""
        speeds = {f"{phase}_tokens_per_second": round(tokens / max(self.spent[phase], 1e-9), 1) for phase in ("sample", "score", "update")}
        total = sum(seconds for phase, seconds in self.spent.items() if phase != "evaluate")
        return {
            **{f"seconds_{phase}": round(seconds, 4) for phase, seconds in self.spent.items()},
            **speeds,
            "tokens_per_second": round(tokens / max(total, 1e-9), 1),
        }


def _peak_gib() -> float:
    """Most memory held so far: on the GPU if there is one, else by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
