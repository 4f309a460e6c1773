"""The flows that people and schedules start from the Prefect UI: a run of a recipe, comparisons of methods and of texts, the next
GRPO iteration, mining of new snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from data.clock import believed_column
from data.config import CrawlConfig, CrawlFiles
from data.errors import MathQuarryError
from data.ledger import Ledger
from data.store import Store
from flows.ablate import all_arms
from flows.compare import side_by_side
from flows.crawl import crawl_flow
from flows.forms import AblateForm, CompareForm, IterationForm, RunForm, SnapshotForm, served_store
from flows.inputs import check_inputs
from flows.iterate import iterate, iterations_done
from flows.mine import mine_flow
from flows.outcome import said_plainly
from flows.pipeline import Run, run_id, whole_path
from flows.problems import problems_flow
from flows.recipe import Recipe, load_recipe, override_recipe
from flows.report import report_flow
from flows.run import accuracy
from tasks.stage import Produced
from tasks.ui import publish_run


@flow(name="pipeline", flow_run_name="{run.recipe}")
@said_plainly
def served_pipeline(run: RunForm) -> State[None]:
    """Run a recipe, each stage from its own deployment.

    Args:
        run: What to run.
    """
    recipe = run.resolve(review=run_id())
    check_inputs(recipe)
    record = Run(served_store(), recipe, run.first_stage, run.rebuilt, _log)
    with record.recorded():
        whole_path(record, recipe)
    return _finished(record)


@flow(name="compare", flow_run_name="{methods.recipe}")
@said_plainly
def served_compare(methods: CompareForm) -> State[None]:
    """Reinforcement learning side by side from a recipe's fine-tuned policy, each stage from its own deployment.

    Args:
        methods: What to compare.
    """
    recipe = methods.resolve()
    check_inputs(recipe)
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
    check_inputs(recipe)
    record = Run(served_store(), recipe, None, frozenset(), _log)
    with record.recorded():
        all_arms(record, recipe, mixes.experiment)
    return _finished(record)


@flow(name="grpo-iteration")
@said_plainly
def grpo_iteration_flow(go_on: IterationForm) -> State[None]:
    """Do the next iteration of GRPO: refresh the reward model, improve the newest policy, evaluate, and record the longer run.

    What comes next is read from the ledger, where only finished runs are. An iteration that failed or was missed is therefore simply the
    next one, and what it had finished is found in the store by its key.

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
        # A comparison has policies too, but no line of iterations to continue.
        "and exists (select 1 from run_stages s where s.id = r.id and regexp_full_match(s.name, 'reward-0|grpo-[0-9]+')) "
        f"order by {believed_column('ended')} desc limit 1",
        [recipe, recipe],
    )
    if not found:
        raise MathQuarryError(f"no finished run{f' of recipe {recipe}' if recipe else ''} is in the ledger. Run the pipeline first.")
    return store.run(found[0]["id"])


def next_iteration(run: Run, recipe: Recipe) -> None:
    """The stages of the iteration after the newest one in `run.produced`."""
    iterate(run, recipe, run.references, iterations_done(run.produced) + 1)
    run.stage("report", report_flow, run.record("running"), run.references)


@flow(name="mine-snapshots")
@said_plainly
def mine_snapshots_flow(snapshots: SnapshotForm) -> State[None]:
    """Mine every snapshot in a folder; a snapshot that was mined before is found in the store and passed over.

    Args:
        snapshots: Where they are and how to mine them.
    """
    recipe = load_recipe(snapshots.recipe, snapshots.overrides)
    folders = sorted(folder for folder in Path(snapshots.snapshots).glob("*") if any(folder.glob("*.warc.gz")))
    if not folders:
        raise MathQuarryError(f"{snapshots.snapshots} holds no folder with *.warc.gz files. Put each snapshot into a folder of its own.")
    record = Run(served_store(), recipe, None, frozenset(), _log)
    with record.recorded():
        problems = record.stage("problems", problems_flow, recipe.problems)
        for folder in folders:
            source = CrawlConfig(source=CrawlFiles(warcs=[f"{folder}/*.warc.gz"]), seed=recipe.crawl.seed)
            crawl = record.stage(f"crawl-{folder.name}", crawl_flow, source, problems)
            record.stage(f"mine-{folder.name}", mine_flow, recipe.mine, crawl, problems)
    return Completed(message=f"run {record.id}: {len(folders)} snapshots")


def _again(store: Store, stage: dict[str, Any]) -> Produced:
    artifact = store.get(stage["stage"], stage["key"])
    return Produced(f"{artifact.stage}/{artifact.key}", True, artifact.seconds, artifact.summary)


def _log(name: str, made: Produced | None) -> None:
    if made is not None:
        get_run_logger().info("%s: %s %s", name, "found" if made.reused else "made", made.ref)


def _finished(run: Run) -> State[None]:
    publish_run(run.id, run.references, accuracy(run.produced))
    return Completed(message=f"run {run.id}: {run.produced['report'].ref}")
