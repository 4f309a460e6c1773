"""A user's actions in the Prefect UI, in a browser: start a run by its form, retry a failed stage, review domains, enable a schedule."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.serve.browser.conftest import SCREENSHOTS
from tests.serve.stack import MINI, Stack, docker, kill_process, stage_container, suspended

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def shot(page: Page, name: str) -> None:
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def press(locator: Locator) -> None:
    """Activate by the keyboard: the graph of a run captures clicks on elements around it."""
    locator.focus()
    locator.press("Enter")


def from_menu(page: Page, action: str) -> Locator:
    """Choose an action in a run's menu; returns the dialog that opens."""
    press(page.get_by_role("button", name="Open menu").first)
    press(page.get_by_role("menuitem", name=action))
    return page.locator("[role=dialog], [role=alertdialog]")


def open_run(page: Page, stack: Stack, run_id: str) -> None:
    page.goto(f"{stack.url}/v2/runs/flow-run/{run_id}")


def test_a_run_is_started_by_its_form_reviewed_by_hand_fails_and_is_retried_to_its_end(
    page: Page, stack: Stack, lost_runs: dict[str, str], submitted: list[str]
) -> None:
    run_id = started_by_the_form(page, stack, [*MINI, "mine.max_rounds=3", "mine.stop_overlap=1.0"])
    mine, chosen = reviewed_in_two_rounds(page, stack, run_id)
    failed_and_retried(page, stack, run_id)
    assert stack.run(mine)["state"]["message"] == f"made mine/{stack.keys(run_id)['mine']}"
    decisions = stack.decisions(stack.record(run_id)["config"]["mine"]["review"])
    assert [[(verdict["host"], verdict["verdict"]) for verdict in decided["path"]] for decided in decisions.values()] == [
        [(chosen, "accept")],
        [],
    ]
    submitted.append(run_id)


def started_by_the_form(page: Page, stack: Stack, overrides: list[str]) -> str:
    """Id of a pipeline's run with annotation switched on."""
    page.goto(f"{stack.url}/v2/deployments/deployment/{stack.deployment('pipeline')['id']}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_text("GRPO iterations").wait_for()
    earlier = pipelines(stack)
    # On services that are kept up, a seed of its own, so that nothing of it is in the store.
    page.locator("main input[type=number]").nth(0).fill(str(len(earlier)))
    page.locator("main input[type=number]").nth(1).fill("1")
    # The first of two; the other switches the check of the fields off.
    page.get_by_role("switch").first.click()
    for override in overrides:
        page.get_by_role("button", name="Add item").click()
        page.locator("main textarea").last.fill(override)
    page.get_by_text("Run Name").scroll_into_view_if_needed()
    shot(page, "form")
    page.get_by_role("button", name="Submit").click()
    (run_id,) = stack.wait(lambda: pipelines(stack) - earlier, "the run that was submitted")
    return str(run_id)


def reviewed_in_two_rounds(page: Page, stack: Stack, run_id: str) -> tuple[str, str]:
    """Review two rounds; returns the run of `mine` and the host accepted in the first. In the second the proposed threshold is taken."""
    mine = stack.wait(lambda: asking(stack, run_id, 1), "the first suspension")["id"]
    # Nothing of the run is left in memory while it waits.
    worker = stack.container("cpu-worker")
    stack.wait(lambda: docker("exec", worker, "python", "-c", PROCESSES.format(run_id=mine)) == "[]", "the end of the process")
    stack.says(run_id, f"/runs/flow-run/{mine}")
    open_run(page, stack, mine)
    assert "**Resume**" in stack.page(mine, "review")
    stack.says(mine, f"choose Resume in its menu. The domains: {stack.url}/v2/artifacts/artifact/")
    dialog = from_menu(page, "Resume")
    dialog.get_by_text("Domains after mining round 1").wait_for()
    dialog.get_by_text("take the threshold").wait_for()
    shot(page, "annotation")
    press(dialog.get_by_text("take the threshold"))
    page.get_by_role("option", name="review by hand").click()
    dialog.get_by_role("button", name="Add item").first.click()
    shown = stack.api("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": ["domains-round-1"]}, "flow_run_id": {"any_": [mine]}}})
    chosen = json.loads(shown[0]["data"])[0]["host"]
    dialog.locator("textarea").first.fill(f"{chosen}/")
    dialog.get_by_role("button", name="Resume").click()

    stack.wait(lambda: asking(stack, run_id, 2), "the second suspension")
    open_run(page, stack, mine)
    dialog = from_menu(page, "Resume")
    dialog.get_by_text("Domains after mining round 2").wait_for()
    dialog.get_by_role("button", name="Resume").click()
    return mine, chosen


def failed_and_retried(page: Page, stack: Stack, run_id: str) -> None:
    """Kill a pipeline's pretraining: the page shows it, and after *Retry* only pretraining is done again."""
    broken = stack.in_state(run_id, "pretrain", "Running")
    open_run(page, stack, run_id)
    kill_process(stage_container(broken), broken["id"])
    page.get_by_text("Failed", exact=True).first.wait_for(timeout=120_000)
    press(page.get_by_role("combobox").filter(has_text="Oldest to newest"))
    page.get_by_role("option", name="Newest to oldest").click()
    page.get_by_text("First: ").first.wait_for()
    shot(page, "failed")
    before = stack.children(run_id)
    assert before["pretrain"]["state"]["type"] == "CRASHED"
    page_of_failure = stack.page(run_id, "failure")
    assert f"({stack.url}/v2/runs/flow-run/{before['pretrain']['id']})" in page_of_failure
    assert "MATHQUARRY_MEMORY" in page_of_failure
    press(page.get_by_role("tab", name="Artifacts"))
    page.get_by_text("Why this run failed in stage pretrain").first.wait_for()

    press(from_menu(page, "Retry").get_by_role("button", name="Retry"))
    stack.wait(lambda: stack.run(run_id)["run_count"] == 2, "another attempt")
    stack.finished(run_id)
    page.get_by_text("Completed", exact=True).first.wait_for()
    after = stack.children(run_id)
    assert {name for name in before if after[name]["infrastructure_pid"] != before[name]["infrastructure_pid"]} == {"pretrain"}
    assert {name for name, run in after.items() if run["run_count"] > 1} <= {"pretrain"}
    press(page.get_by_role("tab", name="Subflow Runs"))
    page.get_by_text("evaluate-rl-1").first.wait_for()
    shot(page, "run")


def pipelines(stack: Stack) -> set[str]:
    """Ids of the pipeline's runs."""
    return {run["id"] for run in stack.api("POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["pipeline"]}}})}


def asking(stack: Stack, pipeline: str, number: int) -> dict[str, Any] | None:
    """The `mine` run of a pipeline that waits for a person after round `number`."""
    found = suspended(stack, pipeline)
    return found if found and found["state"]["state_details"]["pause_key"].startswith(f"round-{number}-") else None


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
