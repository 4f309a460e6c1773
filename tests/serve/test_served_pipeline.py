"""The small recipe as the UI starts it: each stage with a model in a container of its own, the same artifacts as in one process."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.serve.conftest import ServedRun
from tests.serve.stack import WITH_A_MODEL, Stack, docker, stage_container

pytestmark = [pytest.mark.slow, pytest.mark.serve]


def test_the_artifacts_are_those_of_a_run_in_one_process(served_run: ServedRun, embedded_keys: dict[str, str]) -> None:
    assert served_run.keys == embedded_keys


def test_every_stage_with_a_model_had_a_container_of_its_own(stack: Stack, served_run: ServedRun) -> None:
    children = stack.children(served_run.id)
    containers = {name: stage_container(run) for name, run in children.items() if run["work_pool_name"] == "gpu"}
    assert set(containers) == WITH_A_MODEL
    assert len(set(containers.values())) == len(WITH_A_MODEL)
    # They are gone when their work is done.
    left = docker("ps", "--all", "--format", "{{.Names}}", "--filter", "label=mathquarry=stage", "--filter", f"network={stack.name}-stages")
    assert left == ""


def test_only_references_travel(stack: Stack, served_run: ServedRun) -> None:
    child = stack.children(served_run.id)["sft"]
    assert re.fullmatch(r"pretrain/[0-9a-f]{20}", child["parameters"]["base"])
    assert child["state"]["message"] == f"made {served_run.reference('sft')}"


def test_the_artifacts_are_whole_and_in_the_ledger(stack: Stack, served_run: ServedRun) -> None:
    assert "artifacts are intact" in stack.verify()
    listed = docker("exec", stack.container("cpu-worker"), "mathquarry", "ledger", "ls")
    assert all(key in listed for key in served_run.keys.values())


def test_retrying_a_finished_run_does_nothing(stack: Stack, served_run: ServedRun) -> None:
    before = {name: run["run_count"] for name, run in stack.children(served_run.id).items()}
    runs = stack.run(served_run.id)["run_count"]
    stack.retry(served_run.id)
    stack.wait(lambda: stack.run(served_run.id)["run_count"] == runs + 1, "another attempt")
    stack.finished(served_run.id)
    assert {name: run["run_count"] for name, run in stack.children(served_run.id).items()} == before


def test_each_stage_shows_progress_a_summary_metrics_and_a_chart(stack: Stack, served_run: ServedRun) -> None:
    child = stack.children(served_run.id)["sft"]
    shown = stack.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [child["id"]]}}})
    assert {"progress", "markdown", "table", "image"} <= {artifact["type"] for artifact in shown}
    summary = next(artifact["data"] for artifact in shown if artifact["type"] == "markdown")
    assert served_run.reference("sft") in summary
    assert served_run.keys["pretrain"] in summary
    stack.says(child["id"], r": step \d+ of \d+")


def test_the_run_shows_its_artifacts_and_links_to_the_report(stack: Stack, served_run: ServedRun) -> None:
    shown = stack.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [served_run.id]}}})
    # In no order. A link is a page of its own, `run-ID-report`.
    pages = {artifact["key"]: artifact["data"] for artifact in shown if artifact["key"].startswith("run-")}
    page = next(data for key, data in pages.items() if not key.endswith("-report"))
    assert all(key in page for key in served_run.keys.values())
    address = re.search(r"\[Open the report\]\((.+?)\)", page)
    assert address is not None
    assert "<html" in httpx.get(address[1]).text


def test_links_in_logs_and_terminals_open_on_the_host(stack: Stack) -> None:
    program = "from prefect.settings import PREFECT_UI_URL; print(PREFECT_UI_URL.value())"
    for service in ("cpu-worker", "docker-worker"):
        assert docker("exec", stack.container(service), "python", "-c", program) == stack.url


@pytest.fixture(scope="module")
def comparison(stack: Stack, served_run: ServedRun) -> str:
    """Id of a comparison's run. It starts from the pipeline's state after fine-tuning."""
    form = {"recipe": "tiny", "methods": ["rft"], "seeds": [0], "steps": 1, "overrides": served_run.overrides}
    run_id = stack.trigger("compare", {"methods": form})
    stack.finished(run_id)
    return run_id


def test_a_comparison_starts_from_the_policy_of_the_pipeline(stack: Stack, served_run: ServedRun, comparison: str) -> None:
    keys = stack.keys(comparison)
    assert {name: keys[name] for name in ("sft", "evaluate-sft")} == {name: served_run.keys[name] for name in ("sft", "evaluate-sft")}
    assert stack.children(comparison)["grpo-rft-0"]["parameters"]["policy"] == served_run.reference("sft")
    assert {"grpo-rft-0", "evaluate-rft-0", "report"} <= set(keys)


def test_what_is_in_the_store_ends_at_once_without_a_process_and_shows_what_it_is(
    stack: Stack, served_run: ServedRun, comparison: str
) -> None:
    children = stack.children(comparison)
    started = {name for name, run in children.items() if run["infrastructure_pid"]}
    assert started == {"grpo-rft-0", "evaluate-rft-0", "report"}
    assert {run["state"]["message"].split()[0] for name, run in children.items() if name not in started} == {"found"}
    shown = stack.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [children["sft"]["id"]]}}})
    assert {"markdown", "table", "image"} <= {artifact["type"] for artifact in shown}
    assert any(served_run.reference("sft") in artifact["data"] for artifact in shown if artifact["type"] == "markdown")


def test_an_experiment_about_data_runs_from_its_form(stack: Stack, served_run: ServedRun) -> None:
    arms = 'ablate.papers.arms={mined = {parts = [{mix = [{name = "corpus", weight = 1.0}], total_tokens = 8192}]}}'
    small = [*served_run.overrides, "ablate.papers.start=[]", arms, "ablate.held_out_steps=1", "ablate.fine_tune_steps=0"]
    run_id = stack.trigger("ablate", {"mixes": {"recipe": "tiny", "experiment": "papers", "seeds": [0], "overrides": small}})
    stack.finished(run_id)
    keys = stack.keys(run_id)
    assert keys["mine"] == served_run.keys["mine"]
    assert {"pretrain-papers-mined-0", "report"} <= set(keys)


def test_of_two_runs_that_want_one_artifact_the_second_waits_and_finds_it(stack: Stack, served_run: ServedRun) -> None:
    config = {**stack.record(served_run.id)["config"]["mine"], "review": None, "seed": 6}
    references = {"crawl": served_run.reference("crawl"), "problems": served_run.reference("problems")}
    pair = [stack.trigger("mine", {"store": "/store", "config": config, **references}) for _ in range(2)]
    said = {stack.finished(each)["state"]["message"].split()[0]: each for each in pair}
    assert set(said) == {"made", "found"}
    stack.says(said["found"], "another run is making mine/")
    assert stack.run(said["found"])["state"]["type"] == "COMPLETED"
