"""The whole pipeline: crawl -> corpus -> base -> instruct -> reward model -> iterative GRPO -> scores -> report.

The pipeline only orders stages and passes references between them. Each artifact is looked up by its key. So running the same recipe again
does nothing, and an interrupted run continues at the stage, and at the checkpoint inside it, where it stopped.
"""

from __future__ import annotations

from prefect import flow

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.iterate import iterate, score
from mathquarry.flows.recipe import Recipe
from mathquarry.flows.recorded_run import OnStage, Run
from mathquarry.flows.stages.made import Made
from mathquarry.flows.stages.registry import dependents
from mathquarry.flows.stages.report import report_flow

UP_TO = {
    "problems": "problems",
    "crawl": "crawl",
    "mine": "corpus",
    "pretrain": "base",
    "curate": "examples",
    "rejection": "sampled",
    "sft": "policy",
    "reward": "reward",
}
"""The last stage of a run -> the property of `Made` to evaluate for it."""


@flow(name="pipeline", flow_run_name="{recipe.name}", validate_parameters=False)
def pipeline(recipe: Recipe, store: str, begin_at: str | None, rebuild: str | None, on_stage: OnStage, until: str | None = None) -> Run:
    """Run the stages of `recipe` in order, up to `until`. If a stage fails, records the run as failed and raises the stage's error."""
    run = Run(store, recipe, begin_at, dependents(rebuild) if rebuild else frozenset(), on_stage, until)
    with run.recorded():
        run_pipeline(run, recipe)
    return run


def run_pipeline(run: Run, recipe: Recipe) -> None:
    """Run every stage of the recipe, in order, or only those that `run.until` needs.

    Raises `MathQuarryError` if the recipe does not have that stage.
    """
    check_reached(recipe, run.until)
    made = Made(run, recipe)
    if run.until in UP_TO:
        getattr(made, UP_TO[run.until])
        return
    if run.until == "import":
        _given(made, recipe)
        return
    base, policy = made.base, made.policy
    begins_with_it = base == made.start
    score(run, recipe, "start" if begins_with_it else "base", base, made)
    if policy != base:
        score(run, recipe, "sft", policy, made)
    if not recipe.start.leaves_out("grpo"):
        iterate(run, recipe, made, recipe.iterations)
    if run.wants("report"):
        run.stage("report", report_flow, run.record("running"), run.references)


def check_reached(recipe: Recipe, until: str | None) -> None:
    """Raise `MathQuarryError` if a run of the recipe does not have the stage `until`."""
    start = recipe.start
    reasons = {
        "import": "" if start.policy or start.corpus or start.reward else "its section `start` has no external model or text",
        "crawl": "start.crawl is given" if start.crawl else "",
        "pretrain": "it starts from start.policy, and start.stages does not have `pretrain`" if start.leaves_out("pretrain") else "",
        "rejection": "" if recipe.rejection.enabled else "rejection.enabled is false",
        "sft": "it starts from start.policy, and start.stages does not have `sft`" if start.leaves_out("sft") else "",
        "reward": ""
        if recipe.grpo.uses_reward_model
        else f'grpo.paradigm.reward is "{recipe.grpo.paradigm.reward}", which needs no reward model',
        "grpo": "it starts from start.policy, and start.stages does not have `grpo`" if start.leaves_out("grpo") else "",
        "harness": "" if recipe.harness.tasks else "harness.tasks is empty",
    }
    if reason := reasons.get(until or ""):
        raise MathQuarryError(f"recipe {recipe.name} has no stage {until}: {reason}.")


def _given(made: Made, recipe: Recipe) -> None:
    start = recipe.start
    for name, what in ((start.policy, "start"), (start.corpus, "corpus"), (start.reward, "reward")):
        if name is not None:
            getattr(made, what)
