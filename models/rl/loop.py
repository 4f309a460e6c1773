"""One step of any method: sample completions, score them, compute advantages, update, hand the new weights to the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from mathquarry.data.grade.checker import Checker
from mathquarry.models.peak import PeakMemory
from mathquarry.models.policy.questions import Question
from mathquarry.models.rl.ahead import AheadSampler
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.grading import Grader
from mathquarry.models.rl.paradigm import coefficients
from mathquarry.models.rl.rollouts import Rollouts, measure_rollouts, measure_sampling
from mathquarry.models.rl.sampling import Sampler
from mathquarry.models.rl.selection import learned_from
from mathquarry.models.rl.timing import Seconds
from mathquarry.models.rl.update import Experience, update_policy
from mathquarry.models.rl.weights import Models
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.sync import WeightSync
from mathquarry.models.rollout.tools import ToolRollouts

Metrics = dict[str, float | None]


@dataclass
class Loop:
    """The training loop of one iteration: what all its steps share, and the step itself.

    `solutions` are the worked solutions of the questions; a method that learns from them does not sample. The ranks split the questions of
    a step: each rank samples and scores its part, and then every rank gets all completions. All ranks can read and write the folder
    `scratch`. With `tools`, completions are dialogues in which programs are run.
    """

    config: GRPOConfig
    iteration: int
    tokenizer: PreTrainedTokenizerBase
    questions: list[Question]
    solutions: list[list[int]] | None
    held_out: list[Question]
    models: Models
    engine: RolloutEngine
    checker: Checker
    scratch: Path
    tools: ToolRollouts | None = None
    grader: Grader = field(init=False)
    sampler: Sampler = field(init=False)
    weights: WeightSync = field(init=False)
    ahead: AheadSampler | None = field(init=False, default=None)
    memory: PeakMemory = field(init=False)

    def __post_init__(self) -> None:
        config, models = self.config, self.models
        self.memory = PeakMemory(models.tensors())
        self.grader = Grader(config, self.tokenizer, self.checker, models.reward_model)
        self.sampler = Sampler(config, self.iteration, self.questions, self.solutions, models, self.engine, self.grader, self.tools)
        self.weights = WeightSync(
            config.rollout,
            self.engine,
            models.ranks,
            self.scratch,
            [question.prompt for question in self.questions],
            tolerance=config.probe_tolerance,
            precision=config.precision,  # the arithmetic of the update
        )
        if config.rollout.ahead:
            self.ahead = AheadSampler(self.sampler, models.ranks, config.steps, self.scratch / "ahead")

    @property
    def online(self) -> bool:
        """Whether the current policy samples. If so, the engine gets its weights after every step."""
        return self.config.paradigm.data == "online"

    def begin(self, done: int) -> None:
        """Start or resume after `done` steps: give the engine the weights to sample with, and check that they arrived."""
        version, ranks = self.version(done), self.models.ranks
        if ranks.size > 1 or self.config.rollout.handover == "adapter" or self.ahead is not None:
            self.weights.hand_over(self.models.policy if self.online else self.models.reference, version)
        if self.online:
            self.weights.check(self.models.policy, version)
        if self.ahead is not None and done:
            self.ahead.restore(done)

    def close(self) -> None:
        """Wait until sampling has ended."""
        if self.ahead is not None:
            self.ahead.close()

    def step(self, step: int) -> tuple[Rollouts, Metrics]:
        """Make one step. Returns the completions and all metrics."""
        seconds = Seconds()
        with seconds.of("sample"):
            rollouts = self.sample(step)
        with seconds.of("score"):
            rollouts = self.score(rollouts)
        with seconds.of("update"):
            metrics = self.advantages(rollouts)
            metrics = self.update(rollouts) | metrics
        if self.ahead is not None:
            with seconds.of("wait"):
                self.ahead.wait()
            seconds.sampled_beside(rollouts.seconds)
        with seconds.of("sync"):
            metrics |= self.sync(step)
        if self.is_evaluated(step):
            with seconds.of("evaluate"):
                metrics["test_accuracy"] = self.test_accuracy()
        return rollouts, metrics | self.measure(rollouts, seconds)

    def sample(self, step: int) -> Rollouts:
        """Return this rank's completions of a step. Afterwards the engine sleeps, or it samples the next step's completions."""
        if self.ahead is not None:
            return self.ahead.take(step, self.weights.version)
        rollouts = self.sampler.sample(step)
        self.engine.sleep(weights_follow=self.online)
        return rollouts

    def score(self, rollouts: Rollouts) -> Rollouts:
        """Grade and score this rank's completions. Returns those of all ranks, in the order of the step's questions."""
        self.grader.score(rollouts)
        return rollouts.gathered(self.models.ranks)

    def advantages(self, rollouts: Rollouts) -> Metrics:
        """Compute the gradient coefficient of every token. Returns metrics that only this method has."""
        models = self.models
        rollouts.advantages_BT, metrics = coefficients(rollouts, self.config, models.policy, models.reference, models.critic)
        return metrics

    def update(self, rollouts: Rollouts) -> Metrics:
        """Train the policy on completions with advantages. Returns the update's metrics."""
        learned = learned_from(self.config.selection, rollouts.correct, rollouts.finished, rollouts.group_size)
        experience = Experience(
            rollouts.prompts,
            rollouts.completions,
            rollouts.advantages_BT,
            rollout_logprobs=rollouts.logprobs if self.online else None,
            learned=learned,
            masks=rollouts.masks or None,
        )
        metrics = update_policy(self.models.policy, self.models.reference, self.models.optimizer, experience, self.config)
        return metrics if learned is None else metrics | {"learned_share": sum(learned) / len(learned)}

    def sync(self, step: int) -> dict[str, float]:
        """Give the engine the policy's new weights, if it samples with them. Returns how well engine and trainer agree."""
        return self.weights.sync(self.models.policy, self.version(step)) if self.online else {}

    def is_evaluated(self, step: int) -> bool:
        """Whether the policy is scored on held-out questions after a step."""
        return bool(self.held_out) and (step % (self.config.evaluate_steps or 1) == 0 or step == self.config.steps)

    def test_accuracy(self) -> float:
        """Return the policy's greedy accuracy on the held-out questions."""
        if not self.online:
            self.weights.hand_over(self.models.policy, "evaluated")
        rollouts = self.sampler.greedy(self.sampler.own(self.held_out))
        if not self.online:
            self.weights.hand_over(self.models.reference, "start")
        right = sum(self.grader.grade(rollouts.rows))
        return sum(self.models.ranks.gather(right)) / len(self.held_out)

    def measure(self, rollouts: Rollouts, seconds: Seconds) -> Metrics:
        """Return metrics of the completions, and the time and memory that the step took."""
        tokens = sum(map(len, rollouts.completions))
        return {
            **measure_rollouts(rollouts),
            **measure_sampling(rollouts, self.config.tools.max_calls),
            **seconds.metrics(tokens),
            **self.memory.metrics(),
        }

    def version(self, step: int) -> str:
        """Return the name of the weights after a step."""
        return f"iteration {self.iteration}, step {step}"
