"""Prefect's server for an embedded run: a child process that ends with its parent, however the parent ends.

Prefect's own temporary server survives a parent that is killed with -9. This one watches a pipe to the parent, and stops when it closes.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mathquarry.data.errors import MathQuarryError

START_SECONDS = 120

# An embedded run has no UI. Without these services, a flow run takes a tenth of a second instead of several seconds.
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    # The command line reports a failing stage once, without a traceback if the user can fix it.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "DO_NOT_TRACK": "1",
}


def quieten(home: Path) -> None:
    """Prepare this process for an embedded server with its database in `home`. Call it before Prefect is imported."""
    os.environ.update(QUIET, PREFECT_HOME=str(home))


@contextmanager
def embedded_server(home: Path, meanwhile: Callable[[], None]) -> Iterator[str]:
    """Run a server with its database in `home`. Yields its API URL, which child processes get in their environment.

    `meanwhile` is called while the server starts, which takes seconds.

    Raises `MathQuarryError` if the server does not answer within two minutes.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("a") as lock:
        # The first server in a folder creates its database, and two servers must not do so at once. So servers start one at a time.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run to start its server in {home}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"http://127.0.0.1:{port}/api"
        log = home / f"server-{port}.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "-P", "-m", "mathquarry.flows.cli.server", str(port)],
                env={**os.environ, **QUIET, "PREFECT_HOME": str(home)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            meanwhile()
            _wait_until_healthy(url, server, log)
        except BaseException:
            _stop(server)
            raise
    try:
        os.environ["PREFECT_API_URL"] = url
        yield url
    finally:
        _stop(server)
        log.unlink(missing_ok=True)


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait(timeout=30)


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise MathQuarryError(f"Prefect's server did not start. See its log, {log}.")


def _serve(port: int) -> None:
    """Child process: serve until the parent closes its end of standard input."""
    import uvicorn
    from prefect.server.api.server import create_app

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
