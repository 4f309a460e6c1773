"""Data experiments: small pretraining runs that differ only in their data, with several seeds (paper sections 2.2 and 5.1).

Each (arm, seed, part) is an artifact of stage `pretrain`. Its key finds it when the experiment is run again, and when another arm or
experiment starts with the same training. So an experiment can be interrupted at any time, and arms or seeds can be added later.
"""

from __future__ import annotations

from prefect import flow

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.report.sections.experiments import START
from mathquarry.flows.recipe import Recipe
from mathquarry.flows.recorded_run import OnStage, Run
from mathquarry.flows.stages.crawl import crawl_flow
from mathquarry.flows.stages.curate import curate_flow
from mathquarry.flows.stages.evaluate import evaluate_flow
from mathquarry.flows.stages.harness import harness_flow
from mathquarry.flows.stages.mine import mine_flow
from mathquarry.flows.stages.pretrain import pretrain_flow
from mathquarry.flows.stages.problems import problems_flow
from mathquarry.flows.stages.report import report_flow
from mathquarry.flows.stages.sft import sft_flow
from mathquarry.models.experiments import AblateConfig, Experiment, ExperimentConfig, TrainingPart
from mathquarry.models.train.config import PretrainConfig


@flow(name="ablate", flow_run_name="{recipe.name}-{experiment}", validate_parameters=False)
def ablate(recipe: Recipe, experiment: Experiment, store: str, on_stage: OnStage) -> Run:
    """Run one experiment of `recipe.ablate`, and plot it. Raises `MathQuarryError` if it has no arms, and the error of a failing stage."""
    run = Run(store, recipe, None, frozenset(), on_stage)
    with run.recorded():
        all_arms(run, recipe, experiment)
    return run


def all_arms(run: Run, recipe: Recipe, experiment: Experiment) -> None:
    """Run every stage of the experiment, in order."""
    chosen: ExperimentConfig = getattr(recipe.ablate, experiment)
    if not chosen.arms or START in chosen.arms:
        reason = f"an arm named {START}, a name reserved for its section `start`" if chosen.arms else "no arms"
        raise MathQuarryError(f"recipe {recipe.name}: ablate.{experiment} has {reason}. docs/experiments.md shows how to write arms.")
    problems = run.stage("problems", problems_flow, recipe.problems)
    crawl = run.stage("crawl", crawl_flow, recipe.crawl, problems)
    corpora = {"mined": run.stage("mine", mine_flow, recipe.mine, crawl, problems)}
    if any(arm.corpus == "crawl" for arm in chosen.arms.values()):
        corpora["crawl"] = run.stage("mine-crawl", mine_flow, unselected(recipe), crawl, problems)
    examples = run.stage("curate", curate_flow, recipe.curate, problems) if recipe.ablate.fine_tune_steps else None

    def train(place: str, corpus: str, parts: list[TrainingPart], seed: int, before: str | None) -> str | None:
        for number, part in enumerate(parts, 1):
            name = f"pretrain-{place}" if number == len(parts) else f"pretrain-part{number}-{place}"
            config = part_config(recipe.pretrain, recipe.ablate, part, seed)
            before = run.stage(name, pretrain_flow, recipe.model, config, corpora[corpus], problems, before)
        return before

    def score(place: str, base: str, seed: int) -> None:
        if examples is not None:
            tuning = recipe.sft.model_copy(update={"steps": recipe.ablate.fine_tune_steps, "seed": seed})
            policy = run.stage(f"sft-{place}", sft_flow, tuning, base, examples)
            run.stage(f"evaluate-{place}", evaluate_flow, recipe.evaluate, policy, problems)
        if recipe.harness.tasks:
            run.stage(f"harness-{place}", harness_flow, recipe.harness, base)

    for seed in recipe.ablate.seeds:
        start = train(f"{experiment}-{START}-{seed}", "mined", chosen.start, seed, None)
        if start is not None:
            score(f"{experiment}-{START}-{seed}", start, seed)
        for name, arm in chosen.arms.items():
            trained = train(f"{experiment}-{name}-{seed}", arm.corpus, arm.parts, seed, start)
            assert trained is not None, "an arm has at least one part"
            score(f"{experiment}-{name}-{seed}", trained, seed)
    run.stage("report", report_flow, run.record("running"), run.references)


def part_config(config: PretrainConfig, ablation: AblateConfig, part: TrainingPart, seed: int) -> PretrainConfig:
    """Return the `pretrain` config for a part of an arm."""
    changes = {
        "mix": part.mix,
        "total_tokens": part.total_tokens,
        "learning_rate": ablation.learning_rate,
        "batch_tokens": ablation.batch_tokens,
        "held_out": ablation.held_out,
        "held_out_steps": ablation.held_out_steps,
        "seed": seed,
    }
    return config.model_copy(update=changes)


EVERYTHING = 10**15
"""A token budget larger than any crawl."""


def unselected(recipe: Recipe) -> MineConfig:
    """Return a mining config that cleans the crawl as the recipe does, but keeps all of it."""
    recall = recipe.mine.recall.model_copy(update={"enabled": False})
    changes = {"token_budgets": [EVERYTHING], "max_rounds": 1, "recall": recall, "annotations": None, "review": None}
    return recipe.mine.model_copy(update=changes)
