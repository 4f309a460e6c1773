"""Training methods side by side: from one fine-tuned policy, under one budget of outputs, with several seeds (paper sections 5.2.1, 5.2.2).

Each (method, seed) is an artifact of stage `grpo`, found by its key when the comparison is run again; so it may be interrupted anywhere,
and grown by a method or a seed at a time.
"""

from __future__ import annotations

from prefect import flow

from flows.evaluate import evaluate_flow
from flows.grpo import grpo_flow
from flows.pipeline import Announce, Run, up_to_sft
from flows.recipe import Recipe
from flows.report import report_flow
from flows.reward import reward_flow
from models.config import METHODS, CompareConfig, GRPOConfig, Supervision


@flow(name="compare", flow_run_name="{recipe.name}", validate_parameters=False)
def compare(recipe: Recipe, store: str, announce: Announce) -> Run:
    """Train and score every method of `recipe.compare`, and draw the comparison. Raises what the failing stage raises."""
    run = Run(store, recipe, None, frozenset(), announce)
    with run.recorded():
        side_by_side(run, recipe)
    return run


def side_by_side(run: Run, recipe: Recipe) -> None:
    """Every stage of the comparison, in order."""
    trained = up_to_sft(run, recipe)
    run.stage("evaluate-sft", evaluate_flow, recipe.evaluate, trained.policy, trained.problems)
    start = trained.base if recipe.reward.initialise_from == "base" else trained.policy
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
    stages = {name: made.ref for name, made in run.produced.items()}
    run.stage("report", report_flow, run.record("running"), stages)


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
