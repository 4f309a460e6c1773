"""A local HTTP server, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mathquarry.data.fetch.client import PoliteClient
from mathquarry.data.fetch.config import ClientConfig
from tests.data.crawl.http_server import FakeTime, FileServer, running_server

MakeClient = Callable[..., PoliteClient]


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_server() as found:
        yield found


@pytest.fixture
def time_line() -> FakeTime:
    return FakeTime()


@pytest.fixture
def make_client(tmp_path: Path, time_line: FakeTime) -> MakeClient:
    """A client that does not really wait."""

    def make(**settings: object) -> PoliteClient:
        config = ClientConfig.model_validate({"timeout_seconds": 5.0} | settings)
        return PoliteClient(config, slots=tmp_path / "slots", clock=time_line.clock, sleep=time_line.sleep)

    return make
