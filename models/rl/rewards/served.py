"""A reward computed by a server, over HTTP.

A request is a POST with JSON: the lists of `Completions.keywords`, all of the same length. The response is `{"rewards": [...]}`: for each
completion one number, or a list with one number per step. Connection errors, time-outs and the status codes 408, 425, 429 and 5xx are
retried, after a wait that doubles or the server's `Retry-After`. Any other status ends the stage.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError, TimeoutError

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.rl.rewards.config import HTTPReward

PASSING = {408, 425, 429, *range(500, 600)}
LARGEST_ANSWER = 64 * 2**20
"""Maximum bytes of a response. A number takes about 20."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds between attempts."""


class _Passing(Exception):
    """A failed attempt that can be retried. `wait` is the server's `Retry-After`, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class ServedReward:
    """Sends completions to one server."""

    def __init__(self, config: HTTPReward, sleep: Callable[[float], None] = time.sleep) -> None:
        """Raises `MathQuarryError` if the variable with the token is not set. `sleep` is for tests."""
        self._config, self._sleep = config, sleep
        self._label = f"grpo.rewards, {config.url}"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if config.token is not None:
            if not os.environ.get(config.token):
                raise MathQuarryError(f"{self._label} needs a token: set the environment variable {config.token}.")
            self._headers["Authorization"] = f"Bearer {os.environ[config.token]}"
        self._pool = urllib3.PoolManager(maxsize=config.concurrency, timeout=urllib3.Timeout(config.timeout_seconds), retries=False)

    def __call__(self, keywords: dict[str, list[Any]]) -> list[Any]:
        """Return the server's values for all completions, in order, without checking them. Raises `MathQuarryError` with the address."""
        count, size = len(keywords["completions"]), self._config.batch_size
        batches = [{name: values[start : start + size] for name, values in keywords.items()} for start in range(0, count, size)]
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            waiting = [pool.submit(self._ask, batch) for batch in batches]
            try:
                return [value for answer in waiting for value in answer.result()]
            finally:
                for answer in waiting:
                    answer.cancel()

    def _ask(self, batch: dict[str, list[Any]]) -> list[Any]:
        """Return the values for one batch. Retries failed attempts."""
        body = json.dumps(batch).encode()
        for attempt in range(1, self._config.attempts + 1):
            try:
                return self._values(self._post(body), len(batch["completions"]))
            except _Passing as failure:
                if attempt == self._config.attempts:
                    raise MathQuarryError(
                        f"{self._label} failed {attempt} times; the last time because {failure}. Check that the server is up, or raise "
                        "timeout_seconds and attempts."
                    ) from None
                wait = random.uniform(0.5, 1) * FIRST_WAIT * 2 ** (attempt - 1) if failure.wait is None else failure.wait
                self._sleep(min(LONGEST_WAIT, wait))
        raise AssertionError("the last attempt returns or raises")

    def _post(self, body: bytes) -> bytes:
        """Make one attempt. The time limit covers the whole response, even from a server that sends it slowly."""
        deadline = time.monotonic() + self._config.timeout_seconds
        with self._answer(body) as response:
            if response.status in PASSING:
                told = response.headers.get("Retry-After", "").strip()
                raise _Passing(f"it returned status {response.status}", float(told) if told.isdecimal() and told.isascii() else None)
            found = bytearray()
            while response.status == 200:
                block = response.read1(2**16)
                found += block
                if not block:
                    return bytes(found)
                if len(found) > LARGEST_ANSWER:
                    raise MathQuarryError(f"{self._label} returned more than {LARGEST_ANSWER:,} bytes. Lower batch_size.")
                if time.monotonic() > deadline:
                    raise _Passing(f"it took longer than {self._config.timeout_seconds:g} s")
            said = " ".join(response.read1(300).decode("utf-8", "replace").split())
            raise MathQuarryError(f"{self._label} returned status {response.status}{f': {said}' if said else ''}. Check the server.")

    @contextmanager
    def _answer(self, body: bytes) -> Iterator[urllib3.BaseHTTPResponse]:
        response = None
        try:
            response = self._pool.request("POST", self._config.url, body=body, headers=self._headers, preload_content=False, redirect=False)
            yield response
        except LocationValueError as error:
            raise MathQuarryError(f"{self._label} is not a valid address: {error}.") from None
        except HTTPError as error:
            # urllib3 counts refused connections as time-outs.
            if isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError):
                raise _Passing(f"it took longer than {self._config.timeout_seconds:g} s") from None
            raise _Passing(f"the connection failed ({type(error).__name__}: {' '.join(str(error).split())})") from None
        finally:
            if response is not None:
                response.close()

    def _values(self, answer: bytes, count: int) -> list[Any]:
        try:
            values = json.loads(answer)["rewards"]
        except (ValueError, KeyError, TypeError, RecursionError):
            shown = " ".join(answer[:60].decode("utf-8", "replace").split())
            raise MathQuarryError(f'{self._label} returned {shown!r}; it must return JSON of the form {{"rewards": [...]}}.') from None
        if not isinstance(values, list) or len(values) != count:
            found = f"{len(values)} rewards" if isinstance(values, list) else "`rewards` that are not a list"
            raise MathQuarryError(f"{self._label} returned {found} for {count} completions; it must return one per completion, in order.")
        return values
