"""A served run that fails on an error a user can fix ends with the reason, and its page says what to do first."""

from __future__ import annotations

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.recipe import load_recipe
from mathquarry.flows.served.deploy import deployments, start_here
from mathquarry.flows.stages.outcome import StageFailed, advice, said_plainly


@pytest.mark.parametrize(
    ("cause", "first"),
    [
        ("Crashed: Flow run infrastructure exited with non-zero status code 137.", "MATHQUARRY_MEMORY"),
        ("Crashed: Image mathquarry-cpu:1 is not on the host. Run `make images` there, then retry.", "make images"),
        ("Crashed: No heartbeat: the process or its host is gone.", "docker/up ps"),
        ("Failed: No space left on device. Free some space, then run again.", "Free some space"),
        ("recipe smollm: crawl.source.warcs: /data/web/sample.warc.gz is missing. Provide it, or correct the field.", "Put the data"),
        ("anything else", "Fix the cause"),
    ],
)
def test_a_cause_has_something_to_do_first(cause: str, first: str) -> None:
    assert first in advice(cause)


def test_a_wrong_field_of_a_recipe_is_no_case_for_retry() -> None:
    with pytest.raises(MathQuarryError) as refused:
        load_recipe("tiny", ["grpo.kl_coeff=1"])
    assert "start a new run" in advice(str(refused.value))


def test_a_failed_stage_is_named_with_its_run_and_its_cause() -> None:
    error = StageFailed("sft", "0123", "Crashed: it was killed.")
    assert str(error).startswith("stage sft, flow run 0123, ended Crashed: it was killed. Fix the cause")


def test_outside_a_deployment_the_error_is_raised() -> None:
    @said_plainly
    def fail(steps: int) -> None:
        raise MathQuarryError(f"{steps} steps")

    with pytest.raises(MathQuarryError, match="3 steps"):
        fail(3)


def test_the_pipeline_comes_first_in_a_list_by_name() -> None:
    first = min([start_here(), *deployments()], key=lambda deployment: deployment.name)
    assert first.flow_name == "pipeline"
    assert start_here()._parameter_openapi_schema == next(d for d in deployments() if d.name == "pipeline")._parameter_openapi_schema
