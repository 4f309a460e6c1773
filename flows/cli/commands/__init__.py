"""The arguments of every command. A group is a module with `register(commands)`, listed in `GROUPS`.

Modules here must not import torch, Prefect or datasets, since `--help` loads them all. A command imports what it needs when it runs.
"""

from __future__ import annotations

from mathquarry.flows.cli.commands import ledger, models, pages, recipe, recipes, services, stages

GROUPS = (recipes, stages, recipe, models, pages, services, ledger)
"""In the order of the help."""
