"""`mathquarry watch` serves the page of a run, to this machine alone, and says when there is a newer one."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.store import Store
from mathquarry.flows.__main__ import main
from mathquarry.flows.cli.watch import server_of
from tests.data.report.running import RUN, record, running


@contextmanager
def served(store: Store, name: str | None = None) -> Iterator[int]:
    """The port of the page's server."""
    server, run = server_of(store.url, name, 0)
    assert run == RUN
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def get(port: int, path: str = "/", host: str = "127.0.0.1", method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers={"Host": host})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_newest_page_is_served_and_its_version_changes_when_there_is_something_new(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, grpo), served(store, RUN[:9]) as port:
        versions = [get(port, "/version")[1], get(port, "/version")[1]]
        status, text = get(port)
        assert status == 200
        assert f'data-version="{versions[0]}"' in text
        assert '"y":[0.125,0.25]' in text
        grpo.log(3, reward=0.5)
        versions.append(get(port, "/version")[1])
        assert '"y":[0.125,0.25,0.5]' in get(port)[1]
        made["grpo-1"] = grpo.end()
        record(store, made, None)
        versions.append(get(port, "/version")[1])
        assert "No stage is running" in get(port)[1]
        record(store, made, None, "completed")
        versions.append(get(port, "/version")[1])
        assert "data-version" not in get(port)[1]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 4


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", "", "0.0.0.0", "localhost.evil.example"])
def test_a_page_from_elsewhere_whose_name_points_here_reads_nothing(tmp_path: Path, host: str) -> None:
    record(store := Store(tmp_path), {}, None)
    with served(store) as port:
        assert get(port, "/", host)[0] == 403
        assert get(port, "/version", host)[0] == 403
        assert get(port, "/", f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("path", ["/../runs", "//etc/passwd", "/version/", "/?", "/index.html", "/%2e%2e/"])
def test_there_is_nothing_but_the_page(tmp_path: Path, path: str) -> None:
    record(store := Store(tmp_path), {}, None)
    with served(store) as port:
        assert get(port, path)[0] == 404
        assert get(port, "/", method="POST")[0] == 501


def test_it_listens_on_this_machines_own_address(tmp_path: Path) -> None:
    record(store := Store(tmp_path), {}, None)
    server, _ = server_of(store.url, None, 0)
    with server:
        assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_damaged_run_is_an_error_on_the_page_and_no_end_of_the_command(tmp_path: Path) -> None:
    record(store := Store(tmp_path), {}, None)
    with served(store) as port:
        store.run_path(RUN).write_text("{")
        status, text = get(port)
        assert status == 500
        assert "is not JSON" in text
        store.run_path(RUN).write_text(f'{{"id": "{RUN}"}}')
        assert get(port, "/version") == (500, f"{store.run_path(RUN)} is damaged: it has no recipe, stages, started, status.\n")
        run = record(store, {}, None)
        assert get(port)[0] == 200
        store.write_run(run | {"at_work": "grpo-1"})
        assert get(port) == (500, f"{store.run_path(RUN)} is damaged: at_work is 'grpo-1', without a name and a stage.\n")


def test_a_run_that_is_not_there_and_a_port_that_is_taken_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MathQuarryError, match="has no recorded run"):
        server_of(str(tmp_path), None, 0)
    record(store := Store(tmp_path), {}, None)
    assert main(["watch", "2099", "--store", store.url]) == 1
    assert "has no run 2099" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MathQuarryError, match=r"port \d+ cannot be used: .* --port"):
            server_of(store.url, None, taken.getsockname()[1])
    with pytest.raises(MathQuarryError, match="port 70000 cannot be used"):
        server_of(store.url, None, 70000)
