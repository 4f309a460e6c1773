"""What a person does in the Prefect UI, with a browser: start a run by its form, retry what failed, judge domains, switch a schedule on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.serve.browser.conftest import SCREENSHOTS
from tests.serve.conftest import ServedRun
from tests.serve.stack import MINI, Stack, docker, kill_process, stage_container

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def shot(page: Page, name: str) -> None:
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def press(locator: Locator) -> None:
    """Activate by the keyboard: the graph of a run takes clicks meant for what is around it."""
    locator.focus()
    locator.press("Enter")


def from_menu(page: Page, action: str) -> Locator:
    """Choose an action in a run's menu; returns the dialog that opens."""
    press(page.get_by_role("button", name="Open menu").first)
    press(page.get_by_role("menuitem", name=action))
    return page.locator("[role=dialog], [role=alertdialog]")


def open_run(page: Page, stack: Stack, run_id: str) -> None:
    page.goto(f"{stack.url}/v2/runs/flow-run/{run_id}")


def test_a_run_is_started_by_its_form_fails_and_is_retried_to_its_end(
    page: Page, stack: Stack, lost_runs: dict[str, str], submitted: list[str]
) -> None:
    page.goto(f"{stack.url}/v2/deployments/deployment/{stack.deployment('pipeline')['id']}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_text("GRPO iterations").wait_for()
    earlier = pipelines(stack)
    # On services that are kept up, a seed of its own, so that nothing of it is in the store.
    page.locator("main input[type=number]").nth(0).fill(str(len(earlier)))
    page.locator("main input[type=number]").nth(1).fill("1")
    for override in MINI:
        page.get_by_role("button", name="Add item").click()
        page.locator("main textarea").last.fill(override)
    page.get_by_text("Run Name").scroll_into_view_if_needed()
    shot(page, "form")
    page.get_by_role("button", name="Submit").click()
    (run_id,) = stack.wait(lambda: pipelines(stack) - earlier, "the run that was submitted")

    open_run(page, stack, run_id)
    broken = stack.in_state(run_id, "pretrain", "Running")
    kill_process(stage_container(broken), broken["id"])
    page.get_by_text("Failed", exact=True).first.wait_for(timeout=120_000)
    press(page.get_by_role("combobox").filter(has_text="Oldest to newest"))
    page.get_by_role("option", name="Newest to oldest").click()
    page.get_by_text("SIGKILL").first.wait_for()
    shot(page, "failed")
    before = stack.children(run_id)
    assert before["pretrain"]["state"]["type"] == "CRASHED"
    page_of_failure = stack.page(run_id, "failure")
    assert f"({stack.url}/v2/runs/flow-run/{before['pretrain']['id']})" in page_of_failure
    assert "MATHQUARRY_MEMORY" in page_of_failure
    press(page.get_by_role("tab", name="Artifacts"))
    page.get_by_text("Why this run failed in stage pretrain").first.wait_for()

    press(from_menu(page, "Retry").get_by_role("button", name="Retry"))
    page.get_by_text("Completed", exact=True).first.wait_for(timeout=600_000)
    stack.finished(run_id)
    after = stack.children(run_id)
    assert {name for name in before if after[name]["infrastructure_pid"] != before[name]["infrastructure_pid"]} == {"pretrain"}
    assert {name for name, run in after.items() if run["run_count"] > 1} <= {"pretrain"}
    press(page.get_by_role("tab", name="Subflow Runs"))
    page.get_by_text("evaluate-rl-1").first.wait_for()
    shot(page, "run")
    submitted.append(run_id)


def pipelines(stack: Stack) -> set[str]:
    """Ids of the pipeline's runs."""
    return {run["id"] for run in stack.api("POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["pipeline"]}}})}


def test_a_person_judges_the_domains_in_the_form_of_a_suspended_run(page: Page, stack: Stack, served_run: ServedRun) -> None:
    config = {**stack.record(served_run.id)["config"]["mine"], "review": "browser", "seed": 5}
    references = {"crawl": served_run.reference("crawl"), "problems": served_run.reference("problems")}
    run_id = stack.trigger("mine", {"store": "/store", "config": config, **references})
    stack.wait(lambda: stack.run(run_id)["state"]["name"] == "Suspended", "the suspension")
    # Nothing of the run is left in memory while it waits.
    worker = stack.container("cpu-worker")
    stack.wait(lambda: docker("exec", worker, "python", "-c", PROCESSES.format(run_id=run_id)) == "[]", "the end of the process")

    open_run(page, stack, run_id)
    assert "**Resume**" in stack.page(run_id, "review")
    dialog = from_menu(page, "Resume")
    dialog.get_by_text("Domains after mining round 1").wait_for()
    dialog.get_by_text("take the threshold").wait_for()
    shot(page, "annotation")
    press(dialog.get_by_text("take the threshold"))
    page.get_by_role("option", name="judge by hand").click()
    dialog.get_by_role("button", name="Add item").first.click()
    host = stack.api("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": ["domains-round-1"]}}})[0]
    chosen = json.loads(host["data"])[0]["host"]
    dialog.locator("textarea").first.fill(f"{chosen}/")
    dialog.get_by_role("button", name="Resume").click()
    stack.finished(run_id)
    decided = json.loads(stack.in_store("print(open('/store/reviews/browser/round-01.json').read())"))
    assert [(verdict["host"], verdict["verdict"]) for verdict in decided["path"]] == [(chosen, "accept")]


PROCESSES = """
import pathlib
found = []
for entry in pathlib.Path('/proc').glob('[0-9]*'):
    try:
        found += [entry.name] if b'FLOW_RUN_ID={run_id}' in (entry / 'environ').read_bytes() else []
    except OSError:
        pass
print(found)
"""


def test_a_schedule_is_switched_on_and_the_next_run_is_planned(page: Page, stack: Stack) -> None:
    deployment = stack.deployment("grpo-iteration")
    page.goto(f"{stack.url}/v2/deployments/deployment/{deployment['id']}")
    switch = page.get_by_role("switch").first
    switch.click()
    planned = stack.wait(
        lambda: stack.api(
            "POST",
            "/flow_runs/filter",
            {"deployments": {"id": {"any_": [deployment["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}},
        ),
        "a planned run",
    )
    assert all(run["auto_scheduled"] for run in planned)
    page.get_by_role("tab", name="Upcoming").click()
    page.get_by_text("Scheduled", exact=True).first.wait_for()
    shot(page, "schedule")
    switch.click()
