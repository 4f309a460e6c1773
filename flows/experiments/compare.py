"""Compares reinforcement learning methods from one fine-tuned policy, with an equal budget of completions and several seeds.

`methods`: training methods (paper sections 5.2.1, 5.2.2). `rewards`: iterations of GRPO with a reward model that is refreshed between them,
and with a frozen one (paper section 4.1.4 and Figure 6). `credit`: ways to give credit to steps, with each reward, refreshed and frozen
(`flows/experiments/credit.py`).

Each run of a method or an iteration is an artifact of stage `grpo`, found by its key when the comparison is run again. So a comparison can
be interrupted at any time, and methods or seeds can be added later.
"""

from __future__ import annotations

from prefect import flow

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.report.sections.iterations import BOTH, FROZEN, REFRESHED
from mathquarry.flows.experiments.credit import compare_credit
from mathquarry.flows.recipe import Recipe
from mathquarry.flows.recorded_run import OnStage, Run
from mathquarry.flows.stages.evaluate import evaluate_flow
from mathquarry.flows.stages.grpo import grpo_flow
from mathquarry.flows.stages.made import Made
from mathquarry.flows.stages.report import report_flow
from mathquarry.flows.stages.reward import reward_flow, reward_refresh_flow
from mathquarry.models.config import Supervision
from mathquarry.models.experiments import CompareConfig, Compared
from mathquarry.models.rl.config import METHODS, GRPOConfig


@flow(name="compare", flow_run_name="{recipe.name}-{compared}", validate_parameters=False)
def compare(recipe: Recipe, compared: Compared, store: str, on_stage: OnStage) -> Run:
    """Train and score the arms of a comparison, and plot it. Raises the error of a failing stage."""
    run = Run(store, recipe, None, frozenset(), on_stage)
    with run.recorded():
        side_by_side(run, recipe, compared)
    return run


def side_by_side(run: Run, recipe: Recipe, compared: Compared) -> None:
    """Run every stage of the comparison, in order.

    Raises `MathQuarryError` if the recipe has entries in `grpo.rewards`, or if reward models are compared but the recipe uses none.
    """
    if recipe.grpo.rewards:
        raise MathQuarryError("grpo.rewards has entries, but a comparison gives each method the paper's reward. Set it to [].")
    if compared == "rewards" and recipe.grpo.paradigm.reward != "model":
        raise MathQuarryError(f'grpo.paradigm.reward is "{recipe.grpo.paradigm.reward}": a comparison of reward models needs "model".')
    trained = Made(run, recipe)
    run.stage("evaluate-sft", evaluate_flow, recipe.evaluate, trained.policy, trained.problems)
    start = trained.base if recipe.reward.initialise_from == "base" else trained.policy
    {"methods": _methods, "rewards": _rewards, "credit": compare_credit}[compared](run, recipe, trained, start)
    run.stage("report", report_flow, run.record("running"), run.references)


def _methods(run: Run, recipe: Recipe, trained: Made, start: str) -> None:
    rewards: dict[Supervision, str] = {}
    for seed in recipe.compare.seeds:
        for method in recipe.compare.methods:
            config = method_config(recipe.grpo, recipe.compare, method, seed)
            reward = None
            if config.paradigm.reward == "model":
                if config.supervision not in rewards:
                    reward_model = recipe.reward.model_copy(update={"supervision": config.supervision})
                    short = "os" if config.supervision == "outcome" else "ps"
                    rewards[config.supervision] = run.stage(
                        f"reward-{short}", reward_flow, reward_model, start, trained.policy, trained.problems
                    )
                reward = rewards[config.supervision]
            examples = trained.examples if config.paradigm.data == "examples" else None
            policy = run.stage(f"grpo-{method}-{seed}", grpo_flow, config, trained.policy, reward, trained.problems, 1, examples)
            run.stage(f"evaluate-{method}-{seed}", evaluate_flow, recipe.evaluate, policy, trained.problems)


def _rewards(run: Run, recipe: Recipe, trained: Made, start: str) -> None:
    for seed in recipe.compare.seeds:
        reward_model = recipe.reward.model_copy(update={"seed": seed})
        config = recipe.grpo.model_copy(update={"seed": seed})
        first = run.stage(f"reward-{seed}-0", reward_flow, reward_model, start, trained.policy, trained.problems)

        def iterate(arm: str, number: int, policy: str, reward: str, config: GRPOConfig = config, seed: int = seed) -> str:
            improved = run.stage(f"grpo-{arm}-{seed}-{number}", grpo_flow, config, policy, reward, trained.problems, number)
            run.stage(f"evaluate-{arm}-{seed}-{number}", evaluate_flow, recipe.evaluate, improved, trained.problems)
            return improved

        shared = iterate(BOTH, 1, trained.policy, first)
        policy, rewards = shared, [first]
        for number in range(2, recipe.iterations + 1):
            refresh = (reward_model, recipe.refresh, policy, trained.problems, list(rewards), number - 1)
            rewards.append(run.stage(f"reward-{seed}-{number - 1}", reward_refresh_flow, *refresh))
            policy = iterate(REFRESHED, number, policy, rewards[-1])
        policy = shared
        for number in range(2, recipe.iterations + 1):
            policy = iterate(FROZEN, number, policy, first)


def method_config(config: GRPOConfig, compared: CompareConfig, method: str, seed: int) -> GRPOConfig:
    """Return the `grpo` config of a method: "grpo+os" and "grpo+ps" are GRPO with outcome and process rewards."""
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
