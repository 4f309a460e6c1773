import os
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from mathquarry.data.fetch.client import PoliteClient
from mathquarry.data.fetch.config import ClientConfig
from mathquarry.data.fetch.receiver import NotThere, RangeIgnored, Remote, RemoteChanged, RemoteError
from tests.data.crawl.conftest import MakeClient
from tests.data.crawl.http_server import (
    FakeTime,
    FileServer,
    Handler,
    Misbehaviour,
    another_etag,
    changes_and_ends_after,
    ends_after,
    ignores_range,
    lies_about_size,
    names_no_version,
    promises_more,
    reset_after,
    stalls_after,
    status,
    times,
)

BODY = os.urandom(300_000)
LIMIT = 1_000_000


@pytest.fixture(autouse=True)
def _file(server: FileServer) -> None:
    server.files["/a"] = BODY


def test_a_file_is_read_whole_and_described(server: FileServer, make_client: MakeClient) -> None:
    client = make_client(contact="https://example.org/us")
    assert client.read(f"{server.url}/a", LIMIT) == BODY
    described = client.describe(f"{server.url}/a")
    assert (described.size, described.version[:1]) == (len(BODY), '"')
    (agent,) = server.agents
    assert agent.startswith("MathQuarry/")
    assert "https://example.org/us" in agent


def test_an_empty_file_is_empty(server: FileServer, make_client: MakeClient) -> None:
    server.files["/empty"] = b""
    assert make_client().read(f"{server.url}/empty", LIMIT) == b""


@pytest.mark.parametrize(
    "script",
    [
        [status(503)] * 3,
        [status(429), status(500), status(502), status(504)],
        [reset_after(0)],
        [reset_after(100_000)] * 2,
        [ends_after(70_000)] * 4,
        [ends_after(70_000), ignores_range],
        [ends_after(70_000), another_etag],
        [lambda handler: handler.whole(etag=False, stop=70_000)] * 2,
        [promises_more(10)],
        [another_etag, another_etag],
    ],
    ids=["503", "others", "reset", "resets", "short", "short-then-whole", "changed", "no-version", "promises", "versions"],
)
def test_what_passes_is_survived(script: list[Misbehaviour], server: FileServer, make_client: MakeClient) -> None:
    server.scripts["/a"] = list(script)
    assert make_client().read(f"{server.url}/a", LIMIT) == BODY


def test_a_transfer_that_broke_off_goes_on_where_it_was(server: FileServer, make_client: MakeClient) -> None:
    server.scripts["/a"] = [ends_after(100_000), reset_after(50_000), ends_after(100_000)]
    assert make_client().read(f"{server.url}/a", LIMIT) == BODY
    assert server.sent["/a"] <= len(BODY) + 50_000  # what a reset tore from the socket's buffer comes again


def test_a_stalled_connection_is_dropped_and_the_rest_fetched(server: FileServer, make_client: MakeClient) -> None:
    server.scripts["/a"] = [stalls_after(100_000)]
    assert make_client(timeout_seconds=0.2).read(f"{server.url}/a", LIMIT) == BODY


def test_as_long_as_there_is_progress_the_attempts_do_not_run_out(server: FileServer, make_client: MakeClient) -> None:
    server.scripts["/a"] = [ends_after(70_000)] * 4
    assert make_client(attempts=2).read(f"{server.url}/a", LIMIT) == BODY


@pytest.mark.parametrize(
    ("misbehaviour", "said"),
    [
        (status(503), "503"),
        (status(429, Retry_After="2"), "429"),
        (reset_after(0), "broke off|reset|Connection"),
        (ends_after(10), "broke off at byte"),
        (lies_about_size(10), "broke off at byte 300,000"),
        (changes_and_ends_after(100_000), "broke off at byte 100,000"),
    ],
    ids=["503", "429", "reset", "short", "promises", "changes"],
)
def test_after_the_last_attempt_the_url_and_the_reason_are_named(
    misbehaviour: Misbehaviour, said: str, server: FileServer, make_client: MakeClient
) -> None:
    server.scripts["/a"] = times(50, misbehaviour)
    with pytest.raises(RemoteError, match=said) as error:
        make_client(attempts=3).read(f"{server.url}/a", LIMIT)
    assert f"{server.url}/a" in str(error.value)
    assert len(server.requests) <= 6


@pytest.mark.parametrize("code", [404, 410])
def test_a_file_that_does_not_exist_is_not_asked_for_again(code: int, server: FileServer, make_client: MakeClient) -> None:
    server.scripts["/a"] = [status(code)]
    with pytest.raises(NotThere, match=f"{server.url}/a"):
        make_client().read(f"{server.url}/a", LIMIT)
    assert len(server.requests) == 1


def test_waits_are_drawn_below_a_limit_that_doubles_up_to_the_longest(
    server: FileServer, make_client: MakeClient, time_line: FakeTime
) -> None:
    server.scripts["/a"] = times(7, status(503))
    make_client(first_wait_seconds=1.0, longest_wait_seconds=10.0).read(f"{server.url}/a", LIMIT)
    limits = [1, 2, 4, 8, 10, 10, 10]
    assert len(time_line.naps) == len(limits)
    assert all(0 <= nap <= limit for nap, limit in zip(time_line.naps, limits, strict=True))
    assert len(set(time_line.naps)) == len(limits)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_by_every_client_of_the_machine(
    form: str, server: FileServer, make_client: MakeClient, time_line: FakeTime
) -> None:
    begun = time_line.now
    value = "40" if form == "seconds" else formatdate(begun + 40, usegmt=True)
    server.scripts["/a"] = [status(429, Retry_After=value)]
    server.files["/b"] = b"b"
    with pytest.raises(RemoteError, match="429"):
        make_client(attempts=1).read(f"{server.url}/a", LIMIT)
    assert time_line.now == begun
    make_client().read(f"{server.url}/b", LIMIT)
    assert time_line.now >= begun + 40


def test_a_server_that_asks_for_hours_is_an_error_at_once(server: FileServer, make_client: MakeClient, time_line: FakeTime) -> None:
    server.scripts["/a"] = [status(503, Retry_After="86400")]
    with pytest.raises(RemoteError, match="86,400 s"):
        make_client().read(f"{server.url}/a", LIMIT)
    assert time_line.naps == []


def test_after_403_every_connection_to_the_host_cools_down(server: FileServer, make_client: MakeClient, time_line: FakeTime) -> None:
    server.scripts["/a"] = [status(403)]
    server.files["/b"] = b"b"
    begun = time_line.now
    with pytest.raises(RemoteError, match="403"):
        make_client(attempts=1, cooldown_seconds=300).read(f"{server.url}/a", LIMIT)
    make_client().read(f"{server.url}/b", LIMIT)
    assert time_line.now >= begun + 300


def test_a_client_that_is_turned_away_for_good_stops_soon_and_says_what_may_be_wrong(server: FileServer, make_client: MakeClient) -> None:
    server.scripts["/a"] = times(9, status(403))
    with pytest.raises(RemoteError, match="turns this client away, or has no such file"):
        make_client().read(f"{server.url}/a", LIMIT)
    assert len(server.requests) == 3


def test_a_larger_file_than_expected_is_refused_without_reading_it_all(server: FileServer, make_client: MakeClient) -> None:
    with pytest.raises(RemoteError, match="larger than the limit of 1,000 bytes"):
        make_client().read(f"{server.url}/a", 1000)
    assert server.sent["/a"] <= 1001


def test_a_range_is_read_and_ends_at_the_files_end(server: FileServer, make_client: MakeClient) -> None:
    client = make_client()
    assert client.read_range(f"{server.url}/a", 1000, 2000) == BODY[1000:2000]
    assert client.read_range(f"{server.url}/a", 299_000, 400_000) == BODY[299_000:]
    assert client.read_range(f"{server.url}/a", 300_000, 400_000) == b""
    assert client.read_range(f"{server.url}/a", 350_000, 400_000) == b""


def test_a_range_of_another_version_is_refused(server: FileServer, make_client: MakeClient) -> None:
    client = make_client()
    version = client.describe(f"{server.url}/a").version
    server.files["/a"] = BODY[::-1]
    with pytest.raises(RemoteChanged, match=f"{server.url}/a changed"):
        client.read_range(f"{server.url}/a", 0, 2000, version)


def test_a_range_of_a_server_that_sends_whole_files_only_is_refused(server: FileServer, make_client: MakeClient) -> None:
    server.scripts["/a"] = [ignores_range, names_no_version, ignores_range]
    client = make_client()
    with pytest.raises(RangeIgnored, match=f"{server.url}/a"):
        client.read_range(f"{server.url}/a", 1000, 2000)
    assert client.read_range(f"{server.url}/a", 1000, 2000) == BODY[1000:2000]
    assert client.read_range(f"{server.url}/a", 0, 2000) == BODY[:2000]


def test_a_host_that_cannot_be_reached_is_named(make_client: MakeClient) -> None:
    with pytest.raises(RemoteError, match="http://127.0.0.1:9/a"):
        make_client(attempts=2).read("http://127.0.0.1:9/a", LIMIT)
    with pytest.raises(RemoteError, match="nonsense"):
        make_client(attempts=2).read("nonsense://127.0.0.1:9/a", LIMIT)


def test_never_more_connections_to_a_host_than_allowed(server: FileServer, tmp_path: Path) -> None:
    open_now, most = 0, 0
    lock = threading.Lock()

    def counts(handler: Handler) -> None:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        time.sleep(0.02)
        with lock:
            open_now -= 1
        handler.whole()

    server.scripts["/a"] = times(24, counts)
    clients = [PoliteClient(ClientConfig(connections=2), slots=tmp_path / "slots") for _ in range(3)]
    threads = [threading.Thread(target=client.read, args=(f"{server.url}/a", LIMIT)) for client in clients for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 24
    assert most == 2


def test_a_missing_size_is_said_to_be_missing(server: FileServer, make_client: MakeClient) -> None:
    def unsized(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.send(BODY)

    server.scripts["/a"] = [unsized, unsized]
    client = make_client()
    assert client.describe(f"{server.url}/a") == Remote(None, "")
    assert client.read(f"{server.url}/a", LIMIT) == BODY
