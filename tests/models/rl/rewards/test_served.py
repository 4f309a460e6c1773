"""Rewards over HTTP from real servers: order of batches, retries, limits, and one-line errors."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.reward_terms import RewardTerms
from mathquarry.models.rl.rewards.config import HTTPReward
from mathquarry.models.rl.rewards.served import ServedReward
from tests.models.rl.rewards.cases import FOUR, TOKENIZER, completions
from tests.models.rl.rewards.servers import Reply, served


def lengths(number: int, asked: dict[str, Any]) -> Reply:
    return 200, json.dumps({"rewards": [len(text) for text in asked["completions"]]}).encode(), {}


def reward(url: str, **fields: Any) -> list[list[float]]:
    config = GRPOConfig(supervision="outcome", rewards=[HTTPReward(url=url, **fields)])
    return RewardTerms(config, TOKENIZER).rewards(completions(*FOUR), [])[0]


def refused(url: str, **fields: Any) -> str:
    with pytest.raises(MathQuarryError) as caught:
        reward(url, **fields)
    message = str(caught.value)
    assert "\n" not in message
    assert url in message
    return message


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_batches_come_back_in_order_whatever_their_size(batch_size: int, concurrency: int) -> None:
    with served(lengths) as url:
        assert reward(url, batch_size=batch_size, concurrency=concurrency) == [[float(len(text))] for text in FOUR]


def test_a_request_has_the_lists_of_its_batch_alone() -> None:
    asked: list[dict[str, Any]] = []

    def noted(number: int, request: dict[str, Any]) -> Reply:
        asked.append(request)
        return lengths(number, request)

    with served(noted) as url:
        reward(url, batch_size=3, concurrency=1)
    assert [len(request["completions"]) for request in asked] == [3, 1]
    assert {len(values) for values in asked[0].values()} == {3}
    assert asked[1]["answer"] == ["5"]
    assert asked[1]["steps"] == [["2+3=6\n", "or\n", "6"]]
    assert asked[1]["correct"] == [False]


def test_a_server_may_give_one_reward_a_step() -> None:
    def by_step(number: int, asked: dict[str, Any]) -> Reply:
        return 200, json.dumps({"rewards": [[len(step) for step in steps] for steps in asked["steps"]]}).encode(), {}

    with served(by_step) as url:
        config = GRPOConfig(supervision="process", rewards=[HTTPReward(url=url)])
        rewards, _ = RewardTerms(config, TOKENIZER).rewards(completions(*FOUR), [])
        assert rewards == [[6.0, 4.0], [6.0, 5.0], [1.0], [6.0, 3.0, 1.0]]
        assert "one value per step, which is only used with process supervision of groups" in refused(url)


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_a_server_that_fails_twice_is_asked_again_after_waits_that_double(code: int) -> None:
    waits: list[float] = []

    def shaky(number: int, asked: dict[str, Any]) -> Reply:
        return (code, b"busy", {}) if number < 2 else lengths(number, asked)

    with served(shaky) as url:
        found = ServedReward(HTTPReward(url=url), waits.append)({"completions": list(FOUR)})
    assert found == [len(text) for text in FOUR]
    assert len(waits) == 2
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1.0


@pytest.mark.parametrize(("told", "waited"), [("7", 7.0), ("999999", 60.0), ("²", 1.0), ("Fri, 31 Dec 1999 23:59:59 GMT", 1.0)])
def test_the_servers_retry_after_is_kept_within_a_minute(told: str, waited: float) -> None:
    waits: list[float] = []

    def busy(number: int, asked: dict[str, Any]) -> Reply:
        return (503, b"", {"Retry-After": told.encode().decode("latin-1")}) if number == 0 else lengths(number, asked)

    with served(busy) as url:
        ServedReward(HTTPReward(url=url), waits.append)({"completions": ["a"]})
    assert waits == [waited] if waited > 1 else waits[0] <= waited


def test_a_server_that_stays_away_is_reported_after_the_last_attempt() -> None:
    with served(lambda *_: (503, b"", {})) as url:
        assert "failed 1 times; the last time because it returned status 503" in refused(url, attempts=1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert "failed 1 times; the last time because the connection failed (" in refused(url, attempts=1)


def test_a_server_that_never_answers_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "took longer than 0.1 s" in refused(url, attempts=1, timeout_seconds=0.1)


def test_a_server_that_answers_drop_by_drop_is_reported() -> None:
    ended = threading.Event()

    def drip(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not ended.wait(0.02):
                peer.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        try:
            assert "took longer than 0.3 s" in refused(url, attempts=1, timeout_seconds=0.3)
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((404, b"no such\npage", {}), "returned status 404: no such page"),
        ((401, b"", {}), "returned status 401. Check the server"),
        ((302, b"", {"Location": "http://127.0.0.1:1/"}), "returned status 302"),
        ((204, b"", {}), "returned status 204"),
        ((200, b"", {}), "it must return JSON of the form"),
        ((200, b"<html>\n", {}), "returned '<html>'; it must return JSON"),
        ((200, b"[1, 2, 3, 4]", {}), "it must return JSON of the form"),
        ((200, b'{"reward": [1, 2, 3, 4]}', {}), "it must return JSON of the form"),
        ((200, b"[" * 100_000, {}), "it must return JSON of the form"),
        ((200, b"\xff\xfe", {}), "it must return JSON of the form"),
        ((200, b'{"rewards": [1, 2, 3]}', {}), "returned 3 rewards for 4 completions"),
        ((200, b'{"rewards": [1, 2, 3, 4, 5]}', {}), "returned 5 rewards for 4 completions"),
        ((200, b'{"rewards": "1234"}', {}), "returned `rewards` that are not a list"),
        ((200, b'{"rewards": [1, 2, NaN, 4]}', {}), "returned nan for completion 2"),
        ((200, b'{"rewards": [1, 2, 1e999, 4]}', {}), "returned inf for completion 2"),
        ((200, b'{"rewards": [1, 2, null, 4]}', {}), "returned None for completion 2"),
        ((200, b'{"rewards": [1, 2, "3", 4]}', {}), "returned '3' for completion 2"),
        ((200, b'{"rewards": [1, 2, {}, 4]}', {}), "returned {} for completion 2"),
        ((200, b'{"rewards": [1, [2], 3, 4]}', {}), "a list for some completions and a number for others"),
    ],
)
def test_an_answer_that_does_not_fit_is_reported_in_one_line_and_not_asked_for_again(reply: Reply, message: str) -> None:
    requests: list[dict[str, str]] = []
    with served(lambda *_: reply, requests) as url:
        assert message in refused(url)
    assert len(requests) == 1


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.models.rl.rewards.served.LARGEST_ANSWER", 2**20)
    with served(lambda *_: (200, b" " * 2**22, {})) as url:
        assert "returned more than 1,048,576 bytes" in refused(url)


def test_the_token_comes_from_the_environment_and_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[dict[str, str]] = []
    with served(lengths, requests) as url:
        assert "set the environment variable MATHQUARRY_REWARD_TOKEN" in refused(url, token="MATHQUARRY_REWARD_TOKEN")
        monkeypatch.setenv("MATHQUARRY_REWARD_TOKEN", "secret")
        reward(url, token="MATHQUARRY_REWARD_TOKEN")
        reward(url)
    assert [request.get("Authorization") for request in requests] == ["Bearer secret", None]
    with pytest.raises(ValidationError, match="token"):
        HTTPReward(url=url, token="AWS_SECRET_ACCESS_KEY")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "http://", "http://user:secret@host/", "http://a b/", "example.org", "http://a/\n"]
)
def test_what_is_no_address_is_refused_by_the_config(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        HTTPReward(url=url)


def test_an_address_that_cannot_be_is_reported() -> None:
    assert "failed 1 times" in refused("http://no-such-host.invalid/", attempts=1)
    assert "is not a valid address" in refused("http://a:99999999/", attempts=1)
