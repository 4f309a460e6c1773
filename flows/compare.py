"""Reinforcement learning side by side: from one fine-tuned policy, under one budget of outputs, with several seeds.

`methods`: training methods (paper sections 5.2.1, 5.2.2). `rewards`: iterations of GRPO with a reward model that is refreshed between them,
and with one that stays as it was (paper section 4.1.4 and its Figure 6).

Each run of a method or an iteration is an artifact of stage `grpo`, found by its key when the comparison is run again; so it may be
interrupted anywhere, and grown by a method or a seed at a time.
"""

from __future__ import annotations

from prefect import flow

from data.errors import MathQuarryError
from data.report.iterations import BOTH, FROZEN, REFRESHED
from flows.evaluate import evaluate_flow
from flows.grpo import grpo_flow
from flows.pipeline import Announce, Run, Trained, up_to_sft
from flows.recipe import Recipe
from flows.report import report_flow
from flows.reward import reward_flow, reward_refresh_flow
from models.config import METHODS, CompareConfig, GRPOConfig, Supervision
from models.experiments import Compared


@flow(name="compare", flow_run_name="{recipe.name}-{compared}", validate_parameters=False)
def compare(recipe: Recipe, compared: Compared, store: str, announce: Announce) -> Run:
    """Train and score what is compared, and draw it. Raises what the failing stage raises."""
    run = Run(store, recipe, None, frozenset(), announce)
    with run.recorded():
        side_by_side(run, recipe, compared)
    return run


def side_by_side(run: Run, recipe: Recipe, compared: Compared) -> None:
    """Every stage of the comparison, in order. Raises `MathQuarryError` where reward models are compared that the recipe does not use."""
    if compared == "rewards" and recipe.grpo.paradigm.reward != "model":
        raise MathQuarryError(f'grpo.paradigm.reward is "{recipe.grpo.paradigm.reward}": a comparison of reward models needs "model".')
    trained = up_to_sft(run, recipe)
    run.stage("evaluate-sft", evaluate_flow, recipe.evaluate, trained.policy, trained.problems)
    start = trained.base if recipe.reward.initialise_from == "base" else trained.policy
    (_methods if compared == "methods" else _rewards)(run, recipe, trained, start)
    run.stage("report", report_flow, run.record("running"), run.references)


def _methods(run: Run, recipe: Recipe, trained: Trained, start: str) -> None:
    rewards: dict[Supervision, str] = {}
    for seed in recipe.compare.seeds:
        for method in recipe.compare.methods:
            config = method_config(recipe.grpo, recipe.compare, method, seed)
            reward = None
            if config.paradigm.reward == "model":
                if config.supervision not in rewards:
                    judge = recipe.reward.model_copy(update={"supervision": config.supervision})
                    short = "os" if config.supervision == "outcome" else "ps"
                    rewards[config.supervision] = run.stage(f"reward-{short}", reward_flow, judge, start, trained.policy, trained.problems)
                reward = rewards[config.supervision]
            examples = trained.examples if config.paradigm.data == "examples" else None
            policy = run.stage(f"grpo-{method}-{seed}", grpo_flow, config, trained.policy, reward, trained.problems, 1, examples)
            run.stage(f"evaluate-{method}-{seed}", evaluate_flow, recipe.evaluate, policy, trained.problems)


def _rewards(run: Run, recipe: Recipe, trained: Trained, start: str) -> None:
    for seed in recipe.compare.seeds:
        judge = recipe.reward.model_copy(update={"seed": seed})
        config = recipe.grpo.model_copy(update={"seed": seed})
        first = run.stage(f"reward-{seed}-0", reward_flow, judge, start, trained.policy, trained.problems)

        def iterate(arm: str, number: int, policy: str, reward: str, config: GRPOConfig = config, seed: int = seed) -> str:
            improved = run.stage(f"grpo-{arm}-{seed}-{number}", grpo_flow, config, policy, reward, trained.problems, number)
            run.stage(f"evaluate-{arm}-{seed}-{number}", evaluate_flow, recipe.evaluate, improved, trained.problems)
            return improved

        shared = iterate(BOTH, 1, trained.policy, first)
        policy, rewards = shared, [first]
        for number in range(2, recipe.iterations + 1):
            refresh = (judge, recipe.refresh, policy, trained.problems, list(rewards), number - 1)
            rewards.append(run.stage(f"reward-{seed}-{number - 1}", reward_refresh_flow, *refresh))
            policy = iterate(REFRESHED, number, policy, rewards[-1])
        policy = shared
        for number in range(2, recipe.iterations + 1):
            policy = iterate(FROZEN, number, policy, first)


def method_config(config: GRPOConfig, compared: CompareConfig, method: str, seed: int) -> GRPOConfig:
    """The recipe's `grpo` section as a method of the comparison: "grpo+os" and "grpo+ps" are GRPO with outcome and process rewards."""
    name, _, supervision = method.partition("+")
    changes = {
        "paradigm": METHODS[name],
        "supervision": "process" if supervision == "ps" else "outcome",
        "seed": seed,
        "steps": compared.steps or config.steps,
        "evaluate_steps": compared.evaluate_steps,
        "evaluate_questions": compared.evaluate_questions,
        "learning_rate": compared.learning_rates.get(method, config.learning_rate),
    }
    return config.model_copy(update=changes)
