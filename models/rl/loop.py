"""One step of any method: draw outputs, judge them, turn judgements into coefficients, update, hand the new weights to the engine."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedTokenizerBase

from data.grade.checker import Checker
from models.checkpoint import save_weights
from models.config import GRPOConfig
from models.distributed import Called, whole_weights
from models.label import decode_outputs
from models.questions import Question
from models.rl.paradigm import Judged, coefficients
from models.rl.rollouts import Rollouts, choose_questions, measure_rollouts, sampling_seeds
from models.rl.shares import own_share
from models.rl.update import Experience, autocast, update_policy
from models.rl.weights import Models
from models.rollout.engine import RolloutEngine
from models.rollout.probe import check
from models.rollout.weight_check import check_weights
from models.steps import StepMarker

PROBE_PROMPTS = 4

Item = TypeVar("Item")


@dataclass
class Loop:
    """What all steps of an iteration share, and the step itself. `solutions` are those of the questions, where outputs are not sampled.

    Ranks share the questions of a step: each samples and judges its own, and then all know all outputs. `scratch` is a folder that all
    ranks see.
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
    marker: StepMarker = field(init=False)

    def __post_init__(self) -> None:
        self.marker = StepMarker(self.tokenizer)

    def step(self, step: int) -> tuple[Rollouts, dict[str, float | None]]:
        """Draw, judge, update, hand the new weights to the engine and check that they arrived. Returns the outputs and all figures."""
        models, seconds = self.models, _Seconds()
        with seconds.of("sample"):
            drawn = self.draw(step)
            self.engine.rest()
        with seconds.of("score"):
            drawn, judged, texts, correct = self.together(drawn, *self.judge(drawn))
        with seconds.of("update"):
            advantages_BT, own = coefficients(judged, self.config, models.policy, models.reference, models.critic)
            online = self.config.paradigm.data == "policy"
            experience = Experience(judged.prompts, judged.outputs, advantages_BT, drawn.logprobs if online else None)
            updated = update_policy(models.policy, models.reference, models.optimizer, experience, self.config)
        probed: dict[str, float] = {}
        with seconds.of("sync"):
            if online:
                version = f"iteration {self.iteration}, step {step}"
                self.sync(models.policy, version)
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
        """The outputs of this rank's questions of a step, the G of a question in a row."""
        config, size = self.config, self.config.outputs_per_question
        if self.solutions is not None:
            pairs = list(zip(self.questions, self.solutions, strict=True))
            chosen = self._own(choose_questions(pairs, config, self.iteration, step, config.questions_per_step * size))
            return Drawn([question for question, _ in chosen], [output for _, output in chosen], None, [True] * len(chosen))
        questions = self._own(choose_questions(self.questions, config, self.iteration, step))
        groups = self.engine.generate(
            [question.prompt for question in questions],
            n=size,
            temperature=config.rollout.temperature,
            max_tokens=config.rollout.max_tokens,
            seeds=self._own(sampling_seeds(config, self.iteration, step)),
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

    def together(self, drawn: Drawn, judged: Judged, texts: list[str], correct: list[bool]) -> tuple[Drawn, Judged, list[str], list[bool]]:
        """The outputs of all ranks, in the order of the step's questions."""
        shares = self.models.ranks.gather((drawn, judged, texts, correct))
        return (
            _joined([share[0] for share in shares]),
            _joined([share[1] for share in shares]),
            [text for share in shares for text in share[2]],
            [right for share in shares for right in share[3]],
        )

    def sync(self, model: Called, version: str) -> None:
        """Give the engine the weights of `model`; sharded ones by way of a folder, written by the first rank, which every rank's reads."""
        ranks = self.models.ranks
        if ranks.size == 1:
            self.engine.load_live(model.model, version)
            return
        folder = self.scratch / "weights"
        weights = whole_weights(model.model, ranks)
        if ranks.is_first:
            save_weights(model.model, weights, folder)
        del weights
        ranks.barrier()
        self.engine.load(folder, version)
        ranks.barrier()
        if ranks.is_first:
            shutil.rmtree(folder)

    def test_accuracy(self) -> float:
        """Greedy accuracy of the policy on the held-out questions."""
        models, online = self.models, self.config.paradigm.data == "policy"
        if not online:
            self.sync(models.policy, "evaluated")
        asked = self._own(self.held_out)
        answers = self.engine.generate(
            [question.prompt for question in asked],
            n=1,
            temperature=0.0,
            max_tokens=self.config.rollout.max_tokens,
            seeds=[0] * len(asked),
        )
        if not online:
            self.sync(models.reference, "start")
        texts = decode_outputs(self.tokenizer, [answer.tokens for (answer,) in answers])
        verdicts = self.checker.grade_many([(text, q.problem.answer) for text, q in zip(texts, asked, strict=True)])
        right = sum(answer.finished and verdict.correct for (answer,), verdict in zip(answers, verdicts, strict=True))
        return sum(models.ranks.gather(right)) / len(self.held_out)

    def probe(self, version: str) -> dict[str, float]:
        """Compare trainer and engine after a sync: their weights, then their log-probabilities on the same prompts every time."""
        policy = self.models.policy
        compared = check_weights(self.engine, policy.model, self.models.ranks, version)
        with autocast(policy.model, self.config):  # the arithmetic of the update
            agreement = check(
                self.engine,
                policy,
                [question.prompt for question in self.questions[:PROBE_PROMPTS]],
                temperature=self.config.rollout.temperature,
                tolerance=self.config.probe_tolerance,
                version=version,
            )
        return {"probe_mean": agreement.mean, "probe_largest": agreement.largest, "weights_compared": compared}

    def _own(self, items: list[Item]) -> list[Item]:
        """This rank's share of a list: neighbours, so that all shares in a row are the list."""
        share = own_share([1] * len(items), self.models.ranks)
        return items[share.start : share.stop]


@dataclass(frozen=True)
class Drawn:
    """Outputs as they came from the data source."""

    questions: list[Question]
    outputs: list[list[int]]
    logprobs: list[list[float]] | None
    finished: list[bool]


def _joined(shares: list[Item]) -> Item:
    """One `Drawn` or `Judged` of those of all ranks: lists one after another, the rest as in the first."""
    first: Any = shares[0]
    lists = [field.name for field in fields(first) if isinstance(getattr(first, field.name), list)]
    return replace(first, **{name: [item for share in shares for item in getattr(share, name)] for name in lists})


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
