"""A polite HTTP client for large public archives: it uses few connections, is patient, and resumes interrupted transfers.

Errors are permanent or temporary. An error status below 500 other than 403, 408, 425 and 429 is permanent and ends the
transfer. Any other error is temporary: the next attempt asks for the missing bytes, after the server's `Retry-After` or
after a random wait between zero and a limit that doubles (full jitter,
https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/). Common Crawl uses 403 to turn away
clients that ask too often, so 403 pauses every connection to the host on this machine. An attempt that brought at least
64 KiB resets the count of attempts.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, MaxRetryError

from mathquarry.data.fetch.config import ClientConfig
from mathquarry.data.fetch.receiver import Buffer, NotThere, RangeIgnored, Receiver, Remote, RemoteError
from mathquarry.data.fetch.slots import HostSlots

logger = logging.getLogger("mathquarry")

_BLOCK = 1 << 18
_PROGRESS = 1 << 16
_PASSING = {403, 408, 425, 429, *range(500, 600)}
_REFUSALS = 3
_LONGEST_RETRY_AFTER = 3600.0
_CONTENT_RANGE = re.compile(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)")
_ONE_REDIRECT_CHAIN = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5, respect_retry_after_header=False)


class _Passing(Exception):
    """An attempt that failed but may succeed later. `wait` is the delay in seconds that the server asked for."""

    def __init__(self, reason: str, *, wait: float | None = None, forbidden: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.forbidden = wait, forbidden
        self.progress = False


class PoliteClient:
    """Fetches over HTTP. One object serves any number of threads; `slots` and the two clocks are for tests."""

    def __init__(
        self,
        config: ClientConfig,
        *,
        slots: Path | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self._clock, self._sleep = clock, sleep
        self._slots = cache(lambda host: HostSlots(host, config.connections, folder=slots, clock=clock, sleep=sleep))
        agent = f"MathQuarry/{metadata.version('mathquarry')} (corpus mining{'; ' + config.contact if config.contact else ''})"
        self._headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
        self._pool = urllib3.PoolManager(maxsize=config.connections, timeout=urllib3.Timeout(config.timeout_seconds))

    def describe(self, url: str) -> Remote:
        """Size and version of a file, by a HEAD request. Raises `RemoteError`."""
        found: list[Remote] = []

        def attempt() -> None:
            with self._answer("HEAD", url, {}) as response:
                found.append(_remote(response))

        self._persist(url, attempt)
        return found[-1]

    def read(self, url: str, limit: int) -> bytes:
        """A whole file of at most `limit` bytes. Raises `RemoteError`, also for a larger file."""
        buffer = Buffer(url, 0, limit + 1)
        self.transfer(url, buffer)
        if buffer.position > limit:
            raise RemoteError(f"{url} is larger than the limit of {limit:,} bytes for such a file.")
        return buffer.take()

    def read_range(self, url: str, start: int, stop: int, version: str = "") -> bytes:
        """Bytes from `start` to before `stop`, fewer at the file's end.

        Raises `RemoteError`: `RemoteChanged` when the file does not have `version`, `RangeIgnored` when the server sends only whole files.
        """
        buffer = Buffer(url, start, stop, version)
        self.transfer(url, buffer)
        return buffer.take()

    def transfer(self, url: str, receiver: Receiver) -> None:
        """Fetch the bytes that `receiver` lacks. Raises `RemoteError` naming the URL after the last attempt."""

        furthest = receiver.position

        def attempt() -> None:
            nonlocal furthest
            try:
                self._receive(url, receiver)
            except _Passing as passing:
                passing.progress = receiver.position - furthest >= _PROGRESS
                furthest = max(furthest, receiver.position)
                raise

        self._persist(url, attempt)

    def _persist(self, url: str, attempt: Callable[[], None]) -> None:
        config = self.config
        slots = self._slots(urlsplit(url).netloc)
        failures = refusals = 0
        while True:
            try:
                with slots.connection():
                    return attempt()
            except _Passing as passing:
                failure = passing
            failures = 1 if failure.progress else failures + 1
            refusals += failure.forbidden
            if failure.wait is not None and failure.wait > _LONGEST_RETRY_AFTER:
                raise RemoteError(f"cannot fetch {url}: {failure}, and the server asks to come back in {failure.wait:,.0f} s.")
            pause = config.cooldown_seconds * 2 ** (refusals - 1) if failure.forbidden else failure.wait
            if pause is not None:
                logger.warning("%s: %s; every connection to the host pauses for %.0f s", url, failure, pause)
                slots.pause(pause)
            if failures >= config.attempts or refusals >= _REFUSALS:
                hint = " The server turns this client away, or has no such file: check the name, lower `connections`, or wait."
                raise RemoteError(f"cannot fetch {url}: {failure} (attempt {failures}).{hint * failure.forbidden}")
            wait = random.uniform(0, min(config.longest_wait_seconds, config.first_wait_seconds * 2 ** (failures - 1)))
            logger.info("%s: %s; another attempt follows", url, failure)
            self._sleep(wait)

    def _receive(self, url: str, receiver: Receiver) -> None:
        if receiver.position > receiver.start and not receiver.version:
            receiver.restart()  # without a version, the rest might belong to another file
        headers = {}
        if receiver.position or receiver.stop is not None:
            headers["Range"] = f"bytes={receiver.position}-{'' if receiver.stop is None else receiver.stop - 1}"
            if receiver.version and not receiver.version.startswith("W/"):
                headers["If-Range"] = receiver.version
        with self._answer("GET", url, headers) as response:
            remote = _remote(response)
            changed = bool(receiver.version) and remote.version != receiver.version
            if response.status == 416:
                beyond_the_end = receiver.position == receiver.start and remote.size is not None and receiver.start > remote.size
                if (remote.size == receiver.position or beyond_the_end) and not changed:
                    return
                receiver.restart()
                raise _Passing("the server has no such range")
            if changed:
                receiver.restart()
                if response.status == 206 or receiver.start:
                    raise _Passing("the file changed")
            elif response.status == 200 and receiver.start:
                raise RangeIgnored(f"{url} cannot be read in parts: the server sends only whole files.")
            elif response.status == 200 and receiver.position:
                receiver.restart()
            if response.status == 206 and _first_byte(response) != receiver.position:
                raise _Passing("the server answers with another range than was asked for")
            receiver.begin(remote)
            self._copy(response, receiver, _end(response, remote))

    @staticmethod
    def _copy(response: urllib3.BaseHTTPResponse, receiver: Receiver, promised: int | None) -> None:
        ends = [end for end in (receiver.stop, promised) if end is not None]
        end = min(ends) if ends else None
        blocks = response.stream(_BLOCK, decode_content=False)
        while end is None or receiver.position < end:
            try:
                block = next(blocks, None)
            except HTTPError as error:
                raise _Passing(f"broke off at byte {receiver.position:,}: {_said(error)}") from error
            if block is None:
                break
            receiver.write(block if end is None else block[: end - receiver.position])
        # If the server gives no length, the end of its answer is the end of the file.
        if promised is not None and end is not None and receiver.position < end:
            raise _Passing(f"ended at byte {receiver.position:,} of {end:,}")

    @contextmanager
    def _answer(self, method: str, url: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        try:
            response = self._pool.request(
                method, url, headers=self._headers | headers, preload_content=False, decode_content=False, retries=_ONE_REDIRECT_CHAIN
            )
        except LocationValueError as error:
            raise RemoteError(f"{url} is not a valid URL: {error}.") from None
        except HTTPError as error:
            raise _Passing(_said(error)) from error
        try:
            status = response.status
            if status in _PASSING:
                wait = _retry_after(response.headers.get("Retry-After", ""), self._clock())
                raise _Passing(f"the server answers {status} {response.reason or ''}".rstrip(), wait=wait, forbidden=status == 403)
            if status in (404, 410):
                raise NotThere(f"{url} does not exist: the server answers {status}. Check the crawl id and the base URL.")
            if status not in (200, 206, 416):
                raise RemoteError(f"cannot fetch {url}: the server answers {status} {response.reason or ''}.")
            yield response
        finally:
            # A fully read body returns the connection to the pool; any other body must not be read further.
            response.close()


@lru_cache(maxsize=4)
def client_for(config: ClientConfig) -> PoliteClient:
    """This process's client with these settings."""
    return PoliteClient(config)


def _remote(response: urllib3.BaseHTTPResponse) -> Remote:
    version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if response.status in (206, 416):
        found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        return Remote(int(found[3]) if found and found[3] != "*" else None, version)
    length = response.headers.get("Content-Length", "")
    return Remote(int(length) if length.isdecimal() else None, version)


def _end(response: urllib3.BaseHTTPResponse, remote: Remote) -> int | None:
    """The end of the server's answer, exclusive; None if the server does not say."""
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", "")) if response.status == 206 else None
    return int(found[2]) + 1 if found and found[2] and remote.size is None else remote.size


def _first_byte(response: urllib3.BaseHTTPResponse) -> int | None:
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return int(found[1]) if found and found[1] else None


def _retry_after(value: str, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for, given as seconds or as a date; None if it is not valid."""
    value = value.strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def _said(error: Exception) -> str:
    if isinstance(error, MaxRetryError) and error.reason is not None:
        error = error.reason
    said = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return f"{type(error).__name__}: {said}"
