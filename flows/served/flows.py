"""The flows that people and schedules start on the Prefect server: a run of a recipe, comparisons of methods and of texts, the next
GRPO iteration, mining of new snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from mathquarry.data.crawl.config import CrawlConfig, CrawlFiles
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.clock import believed_column
from mathquarry.data.store.store import Store
from mathquarry.flows.experiments.ablate import all_arms
from mathquarry.flows.experiments.compare import side_by_side
from mathquarry.flows.iterate import iterate, iterations_done
from mathquarry.flows.pipeline import run_pipeline
from mathquarry.flows.preflight.check import check_anywhere
from mathquarry.flows.preflight.planned import Stages, planned_run
from mathquarry.flows.recipe import Recipe, load_recipe, override_recipe
from mathquarry.flows.recorded_run import Run, run_id
from mathquarry.flows.served.forms import AblateForm, CompareForm, IterationForm, RunForm, SnapshotForm, served_store
from mathquarry.flows.stages.crawl import crawl_flow
from mathquarry.flows.stages.made import Made
from mathquarry.flows.stages.mine import mine_flow
from mathquarry.flows.stages.outcome import said_plainly
from mathquarry.flows.stages.problems import problems_flow
from mathquarry.flows.stages.report import report_flow
from mathquarry.tasks.stage import StageResult
from mathquarry.tasks.ui import publish_run


@flow(name="pipeline", flow_run_name="{run.recipe}")
@said_plainly
def served_pipeline(run: RunForm) -> State[None]:
    """Run a recipe, each stage from its own deployment.

    Args:
        run: What to run.
    """
    recipe = run.resolve(review=run_id())
    _check(recipe, lambda planned: run_pipeline(planned, recipe), run.last_stage)
    record = Run(served_store(), recipe, run.first_stage, run.rebuilt, _log, run.last_stage)
    with record.recorded():
        run_pipeline(record, recipe)
    return _finished(record)


@flow(name="compare", flow_run_name="{methods.recipe}")
@said_plainly
def served_compare(methods: CompareForm) -> State[None]:
    """Reinforcement learning side by side from a recipe's fine-tuned policy, each stage from its own deployment.

    Args:
        methods: What to compare.
    """
    recipe = methods.resolve()
    _check(recipe, lambda planned: side_by_side(planned, recipe, methods.compared))
    record = Run(served_store(), recipe, None, frozenset(), _log)
    with record.recorded():
        side_by_side(record, recipe, methods.compared)
    return _finished(record)


@flow(name="ablate", flow_run_name="{mixes.recipe}")
@said_plainly
def served_ablate(mixes: AblateForm) -> State[None]:
    """Pretrain on a recipe's mixes side by side, each stage from its own deployment.

    Args:
        mixes: What to train on.
    """
    recipe = mixes.resolve()
    _check(recipe, lambda planned: all_arms(planned, recipe, mixes.experiment))
    record = Run(served_store(), recipe, None, frozenset(), _log)
    with record.recorded():
        all_arms(record, recipe, mixes.experiment)
    return _finished(record)


@flow(name="grpo-iteration")
@said_plainly
def grpo_iteration_flow(go_on: IterationForm) -> State[None]:
    """Do the next iteration of GRPO: refresh the reward model, improve the newest policy, evaluate, and record the longer run.

    The next iteration is determined from the ledger's finished runs. So an iteration that failed or was missed is done next, and its
    finished artifacts are found in the store by their keys.

    Args:
        go_on: Which run to continue.
    """
    store = Store(served_store())
    before = newest_run(store, None if go_on.recipe == "any" else go_on.recipe)
    recipe = override_recipe(before["config"], go_on.overrides)
    record = Run(store.url, recipe, None, frozenset(), _log)
    record.produced = {stage["name"]: _again(store, stage) for stage in before["stages"] if stage["stage"] != "report"}
    with record.recorded():
        next_iteration(record, recipe)
    return _finished(record)


def newest_run(store: Store, recipe: str | None) -> dict[str, Any]:
    """Record of the newest finished run of a pipeline or of an iteration after one. Raises `MathQuarryError` when there is none."""
    found = Ledger(store).query(
        "select id from runs r where status = 'completed' and (recipe = ? or ? is null) "
        # A comparison has policies too, but no sequence of iterations to continue.
        "and exists (select 1 from run_stages s where s.id = r.id and regexp_full_match(s.name, 'reward-0|grpo-[0-9]+')) "
        f"order by {believed_column('ended')} desc limit 1",
        [recipe, recipe],
    )
    if not found:
        raise MathQuarryError(f"no finished run{f' of recipe {recipe}' if recipe else ''} is in the ledger. Run the pipeline first.")
    return store.run(found[0]["id"])


def next_iteration(run: Run, recipe: Recipe) -> None:
    """The stages of the iteration after the newest one in `run.produced`."""
    iterate(run, recipe, Made(run, recipe, run.references), iterations_done(run.produced) + 1)
    run.stage("report", report_flow, run.record("running"), run.references)


@flow(name="mine-snapshots")
@said_plainly
def mine_snapshots_flow(snapshots: SnapshotForm) -> State[None]:
    """Mine every snapshot in a folder, skipping snapshots whose artifacts are already in the store.

    Args:
        snapshots: Where they are and how to mine them.
    """
    recipe = load_recipe(snapshots.recipe, snapshots.overrides)
    folders = sorted(folder for folder in Path(snapshots.snapshots).glob("*") if any(folder.glob("*.warc.gz")))
    if not folders:
        raise MathQuarryError(f"{snapshots.snapshots} contains no folder with *.warc.gz files. Put each snapshot into its own folder.")
    record = Run(served_store(), recipe, None, frozenset(), _log)
    with record.recorded():
        problems = record.stage("problems", problems_flow, recipe.problems)
        for folder in folders:
            source = CrawlConfig(source=CrawlFiles(warcs=[f"{folder}/*.warc.gz"]), seed=recipe.crawl.seed)
            crawl = record.stage(f"crawl-{folder.name}", crawl_flow, source, problems)
            record.stage(f"mine-{folder.name}", mine_flow, recipe.mine, crawl, problems)
    return Completed(message=f"run {record.id}: {len(folders)} snapshots")


def _check(recipe: Recipe, stages: Stages, until: str | None = None) -> None:
    """Say what is wrong before the first stage starts, and in the log what a person should know."""
    for note in check_anywhere(planned_run(recipe, served_store(), stages, until)):
        get_run_logger().info("%s", note)


def _again(store: Store, stage: dict[str, Any]) -> StageResult:
    artifact = store.get(stage["stage"], stage["key"])
    return StageResult(f"{artifact.stage}/{artifact.key}", True, artifact.seconds, artifact.summary)


def _log(name: str, made: StageResult | None) -> None:
    if made is not None:
        get_run_logger().info("%s: %s %s", name, "found" if made.reused else "made", made.ref)


def _finished(run: Run) -> State[None]:
    publish_run(run.id, run.references, run.accuracy())
    return Completed(message=f"run {run.id}: {list(run.produced.values())[-1].ref}")
