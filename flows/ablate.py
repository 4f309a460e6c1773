"""What to pretrain on: small runs that differ in their data only, with several seeds (paper sections 2.2 and 5.1).

Each (arm, seed, part) is an artifact of stage `pretrain`, found by its key when the experiment is run again or when another arm or
experiment begins with the same training; so it may be interrupted anywhere, and grown by an arm or a seed at a time.
"""

from __future__ import annotations

from prefect import flow

from data.config import MineConfig
from data.errors import MathQuarryError
from data.report.experiments import START
from flows.crawl import crawl_flow
from flows.curate import curate_flow
from flows.evaluate import evaluate_flow
from flows.harness import harness_flow
from flows.mine import mine_flow
from flows.pipeline import Announce, Run
from flows.pretrain import pretrain_flow
from flows.problems import problems_flow
from flows.recipe import Recipe
from flows.report import report_flow
from flows.sft import sft_flow
from models.config import PretrainConfig
from models.experiments import AblateConfig, Experiment, ExperimentConfig, TrainingPart


@flow(name="ablate", flow_run_name="{recipe.name}-{experiment}", validate_parameters=False)
def ablate(recipe: Recipe, experiment: Experiment, store: str, announce: Announce) -> Run:
    """Run one experiment of `recipe.ablate`, and draw it. Raises `MathQuarryError` when it has no arms, and what a failing stage raises."""
    run = Run(store, recipe, None, frozenset(), announce)
    with run.recorded():
        all_arms(run, recipe, experiment)
    return run


def all_arms(run: Run, recipe: Recipe, experiment: Experiment) -> None:
    """Every stage of the experiment, in order."""
    chosen: ExperimentConfig = getattr(recipe.ablate, experiment)
    if not chosen.arms or START in chosen.arms:
        reason = f"an arm named {START}, which is what its section `start` makes" if chosen.arms else "no arms"
        raise MathQuarryError(f"recipe {recipe.name}: ablate.{experiment} has {reason}. docs/experiments.md shows how to write some.")
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
            assert trained is not None, "an arm has a part"
            score(f"{experiment}-{name}-{seed}", trained, seed)
    run.stage("report", report_flow, run.record("running"), run.references)


def part_config(config: PretrainConfig, ablation: AblateConfig, part: TrainingPart, seed: int) -> PretrainConfig:
    """The recipe's `pretrain` section for a part of an arm."""
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
"""A budget of tokens that no crawl exhausts."""


def unselected(recipe: Recipe) -> MineConfig:
    """Mining that cleans the crawl as the recipe's does, and keeps all of it."""
    recall = recipe.mine.recall.model_copy(update={"enabled": False})
    changes = {"token_budgets": [EVERYTHING], "max_rounds": 1, "recall": recall, "annotations": None, "review": None}
    return recipe.mine.model_copy(update=changes)
