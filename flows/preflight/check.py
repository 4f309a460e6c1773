"""Checks a run before its first stage, for problems that would otherwise stop a later stage after hours of work.

Checks the configs of all stages in the run: files, packages and hub names, columns, invalid combinations of settings, and batch sizes
against the data. `flows/preflight/machine.py` checks memory and disk of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.problems.config import ProblemsConfig
from mathquarry.data.problems.problem import no_such_set
from mathquarry.data.solutions.config import CurateConfig
from mathquarry.flows.preflight.inputs import Inputs, named_inputs
from mathquarry.flows.preflight.machine import machine_faults
from mathquarry.flows.preflight.planned import PlannedRun
from mathquarry.models.evaluate.config import RejectionConfig
from mathquarry.models.plan.plan import MOST_PASSES, Passes, passes_over_data, training_questions
from mathquarry.models.policy.config import ScratchModel
from mathquarry.models.reward.config import RefreshConfig, RewardConfig, check_rollouts
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.method import check_method
from mathquarry.models.train.config import PretrainConfig, TrainConfig

IMPORTED = {"import": "start.policy", "import-corpus": "start.corpus", "import-reward": "start.reward"}


def check_anywhere(run: PlannedRun) -> list[str]:
    """Check a run whose stages run on other machines. Returns notes. Raises `MathQuarryError` with a line per problem."""
    return Preflight(run).check()


def check_here(run: PlannedRun) -> list[str]:
    """Check a run in this process, including this machine. Returns notes. Raises `MathQuarryError` with a line per problem."""
    preflight = Preflight(run)
    if faults := [*preflight.faults(), *dict.fromkeys(machine_faults(run))]:
        raise MathQuarryError(refusal(run, faults))
    return preflight.notes()


class Preflight:
    """The checks of one planned run."""

    def __init__(self, run: PlannedRun) -> None:
        self.run, self.inputs = run, Inputs()

    def check(self) -> list[str]:
        """Return notes about a run that can start. Raises `MathQuarryError` with a line per problem."""
        if faults := self.faults():
            raise MathQuarryError(refusal(self.run, faults))
        return self.notes()

    def faults(self) -> list[str]:
        """Return a line per problem, with the field to change."""
        return list(dict.fromkeys(self._faults()))

    def _faults(self) -> Iterator[str]:
        names: list[tuple[str, str]] = []
        for name, arguments in self.run.calls.items():
            stage = self.run.produced[name].stage
            if name in IMPORTED:
                names.append((IMPORTED[name], arguments[0]))
            # Training that continues from another artifact does not read the model.
            goes_on = stage == "pretrain" and len(arguments) > 4 and arguments[4] is not None
            for config in arguments[1 if goes_on else 0 :]:
                names += named_inputs(config)
                yield from self._faults_of(config, stage)
        yield from self.inputs.missing(names)
        yield from self._faults_together()

    def notes(self) -> list[str]:
        """Return notes about a run that can start: passes of each stage over its data, and unusual settings."""
        notes = [f"{one.stage}: {one.count:.2f} passes over {one.data}" for one in self._passes()]
        grpo, reward = self.run.recipe.grpo, self.run.recipe.reward
        if "reward-0" in self.run.calls and grpo.paradigm.reward == "model" and grpo.supervision != reward.supervision:
            notes.append(f"grpo.supervision is {grpo.supervision}, but the reward model is trained with {reward.supervision} labels.")
        if self.inputs.hub_is_away:
            notes.append("The hub is unreachable, so names there were not checked.")
        return notes

    def _faults_of(self, config: Any, stage: str) -> Iterator[str]:
        """Yield problems of a stage's config by itself, and of the files in it."""
        if isinstance(config, TrainConfig) and config.batch_tokens < config.context_tokens:
            row = f"one row of {stage}.context_tokens = {config.context_tokens}"
            yield f"{stage}.batch_tokens is {config.batch_tokens}, less than {row}. Raise it."
        if isinstance(config, (GRPOConfig, RewardConfig)):
            known = self.inputs.training_sets(self.run.recipe.problems)
            yield from (f"{stage}.{no_such_set(name, known)}" for name in config.problem_sets if name not in known)
        match config:
            case ProblemsConfig():
                yield from self.inputs.problem_faults(config)
            case CurateConfig():
                yield from self.inputs.solution_faults(config)
            case ScratchModel() if config.hidden % (2 * config.heads):
                yield f"model.hidden is {config.hidden}; it must be a multiple of 2 x model.heads = {2 * config.heads}."
            case MineConfig():
                yield from self.inputs.column_faults("mine.seed_pages", config.seed_pages.path, [config.seed_pages.text_column])
                yield from self.inputs.column_faults("mine.labelled", config.labelled, ["url", "label"])
            case PretrainConfig():
                if config.total_tokens < config.batch_tokens:
                    step = f"one step of pretrain.batch_tokens = {config.batch_tokens}"
                    yield f"pretrain.total_tokens is {config.total_tokens}, less than {step}. Raise it."
                for source in config.mix:
                    scores = ["score", "tokens"] if source.best_tokens else []
                    yield from self.inputs.column_faults(f"pretrain.mix.{source.name}", source.path, [source.text_column, *scores])
                for text in config.held_out:
                    yield from self.inputs.column_faults(f"pretrain.held_out.{text.name}", text.path, ["text"])
            case GRPOConfig():
                try:
                    check_method(config)
                except MathQuarryError as error:
                    yield str(error)
            case RewardConfig() | RejectionConfig() if config.rollout.temperature == 0 and config.group_size > 1:
                alike = f"all {config.group_size} completions of a question would be the same"
                yield f"{stage}.rollout.temperature is 0: {alike}. Set it above 0."

    def _faults_together(self) -> Iterator[str]:
        """Yield problems of the stages together, and of the amount of data."""
        calls, start = self.run.calls, self.run.recipe.start
        if "import-reward" in calls and "reward" in self.run.stages:
            yield (
                "start.reward is external, so there is no reward data to replay when it is refreshed. Set refresh.enabled = "
                "false or iterations = 1, or use an artifact of stage reward."
            )
        yield from self._rollout_faults()
        if start.corpus and "pretrain" not in calls and self.run.until is None:
            yield "start.corpus is given, but no stage pretrains on it. Add `pretrain` to start.stages, or remove start.corpus."
        for config in (one for values in calls.values() for one in values if isinstance(one, GRPOConfig)):
            questions = self._questions(config.problem_sets)
            if questions is not None and config.paradigm.data != "examples" and config.prompts_per_step > questions:
                yield (
                    f"grpo.prompts_per_step is {config.prompts_per_step}, but there are only {questions} training questions. Lower it, or "
                    "add problems."
                )
        for one in self._passes():
            if one.count > MOST_PASSES:
                yield (
                    f"{one.stage} would go over {one.data} {one.count:,.0f} times, and more than {MOST_PASSES:.0f} are probably a mistake. "
                    f"Lower {one.field}, or add data."
                )

    def _rollout_faults(self) -> Iterator[str]:
        """Yield problems of refreshes on the rollouts of an iteration."""
        grpo = self.run.recipe.grpo
        for values in self.run.calls.values():
            if not any(isinstance(one, RefreshConfig) and one.data == "rollouts" for one in values):
                continue
            if grpo.paradigm.data == "examples":
                yield (
                    "refresh.data is `rollouts`, but grpo.paradigm.data is `examples`, so the policy samples none. Set refresh.data to "
                    "`sampled`."
                )
            for reward in (one for one in values if isinstance(one, RewardConfig)):
                try:
                    check_rollouts(reward.supervision, grpo.format)
                except MathQuarryError as error:
                    yield str(error)

    def _questions(self, sets: Sequence[str]) -> int | None:
        problems = self.run.recipe.problems
        known = self.inputs.training_problems(problems, sets)
        return training_questions(problems.source, sets) if known is None else known

    def _passes(self) -> list[Passes]:
        """Return the passes over data of the stages in this run. They are unknown for a given corpus."""
        recipe, calls = self.run.recipe, self.run.calls
        sections = (recipe.problems.source, recipe.mine, recipe.pretrain, recipe.sft, recipe.reward, recipe.grpo)
        names = {"pretrain": "pretrain", "sft": "sft", "reward": "reward-0", "grpo": "grpo-1"}
        found = passes_over_data(*sections, recipe.iterations, self._questions)
        return [one for one in found if names[one.stage] in calls and not (one.stage == "pretrain" and recipe.start.corpus)]


def refusal(run: PlannedRun, faults: list[str]) -> str:
    """Return the error message: a line per problem, or only the problem if there is one."""
    if len(faults) == 1:
        return f"recipe {run.recipe.name}: {faults[0]}"
    return f"recipe {run.recipe.name} cannot run:\n" + "\n".join(f"  {fault}" for fault in faults)
