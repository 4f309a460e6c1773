"""One Prefect server for all runs of the command line, and a store with a completed run of a small recipe."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mathquarry.flows.cli.server import embedded_server, quieten
from tests.e2e.command_line import CommandLine


@pytest.fixture(scope="session")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    before = dict(os.environ)
    home = tmp_path_factory.mktemp("prefect")
    quieten(home)
    with embedded_server(home, meanwhile=lambda: None) as url:
        environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "3600"}
        os.environ.clear()
        os.environ.update(before)
        yield CommandLine(environment)


@pytest.fixture(scope="session")
def finished_store(command_line: CommandLine, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A store in which the small recipe ran from start to end without interruption: one for all processes of tests, which only read it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "finished"
    folder.mkdir(exist_ok=True)
    store, done = folder / "store", folder / "done"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            command_line.run(*command_line.tiny(store))
            done.touch()
    return store
