"""The worker that holds Docker's socket starts only what its own settings allow, whatever the pool says."""

from __future__ import annotations

from typing import Any

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.served.allowed import check_container, sealed
from mathquarry.flows.served.deploy import DeploySettings, container_template

SETTINGS = DeploySettings(stage_image="mathquarry-cpu:1")


def asked(**changed: Any) -> dict[str, Any]:
    return {**container_template(SETTINGS)["job_configuration"], "network_mode": None, "name": "sft", **changed}


def test_what_the_pool_is_given_is_allowed() -> None:
    check_container(asked(), SETTINGS)
    check_container(asked(mem_limit="1g", labels={"prefect.io/flow-run-id": "1"}), SETTINGS)


@pytest.mark.parametrize(
    "changed",
    [
        {"volumes": ["/:/host"]},
        {"volumes": [*asked()["volumes"], "/var/run/docker.sock:/var/run/docker.sock"]},
        {"volumes": []},
        {"privileged": True},
        {"networks": ["mathquarry", "bridge"]},
        {"network_mode": "host"},
        {"image": "debian:bookworm-slim"},
        {"image_pull_policy": "Always"},
        {"command": "sh -c id"},
        {"container_create_kwargs": {**asked()["container_create_kwargs"], "cap_add": ["SYS_ADMIN"]}},
        {"container_create_kwargs": {**asked()["container_create_kwargs"], "cap_drop": []}},
        {"container_create_kwargs": None},
    ],
)
def test_what_it_was_changed_to_is_refused_by_name(changed: dict[str, Any]) -> None:
    with pytest.raises(MathQuarryError, match=f"another {next(iter(changed))} than"):
        check_container(asked(**changed), SETTINGS)


def test_a_stage_can_change_only_what_it_makes() -> None:
    present = ["artifacts", "work", "runs", "artifacts/sft", "artifacts/grpo", "artifacts/grpo/a", "artifacts/grpo/b", "artifacts/sft/c"]
    parameters = {"policy": "grpo/a", "reward": "reward/r", "history": ["sft/c"], "iteration": 2, "config": {"steps": 1}}
    assert sealed("grpo", parameters, "/host", present) == [
        "/host/artifacts/grpo/a:/store/artifacts/grpo/a:ro",
        "/host/artifacts/sft:/store/artifacts/sft:ro",
        "/host/runs:/store/runs:ro",
    ]
    assert "/host/artifacts/reward:/store/artifacts/reward:ro" not in sealed("reward-refresh", {}, "/host", ["artifacts/reward"])
