"""Command `deploy`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mathquarry.data.errors import MathQuarryError

if TYPE_CHECKING:
    from mathquarry.flows.cli.commands.common import Commands


def register(commands: Commands) -> None:
    """Add this group's commands."""
    deploy = commands.add_parser("deploy", help="Register pools, deployments and schedules with the Prefect server.")
    deploy.set_defaults(run=_deploy)


def _deploy(options: argparse.Namespace) -> None:
    from pydantic import ValidationError

    from mathquarry.flows.served.deploy import DeploySettings, deploy

    try:
        settings = DeploySettings()
    except ValidationError as error:
        fields = "; ".join(f"MATHQUARRY_{str(problem['loc'][0]).upper()}: {problem['msg']}" for problem in error.errors())
        raise MathQuarryError(f"settings of the deployment are missing or wrong: {fields}. docs/operations.md lists them.") from None
    for line in deploy(settings):
        print(line)
