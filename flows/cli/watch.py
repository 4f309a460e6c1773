"""`mathquarry watch`: serves the page of a running run, on this machine only."""

from __future__ import annotations

import hashlib
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.report.running import making_of, running_page, snapshot
from mathquarry.data.store.making import Making
from mathquarry.data.store.store import Store
from mathquarry.flows.cli.pages import find_run, stages_of
from mathquarry.tasks.report import report_artifacts

RECORDED = {"recipe", "started", "status", "stages"}
"""Fields of a run's record that the page needs."""
ATTEMPTS = 5
"""Attempts to make a page while stages end."""


class RunPage:
    """The current page of one run. On a request, it is made again if the run has changed."""

    def __init__(self, store: Store, run: str) -> None:
        self._store, self._run = store, run
        self._lock = threading.Lock()
        self._made: tuple[str, str] | None = None

    def version(self) -> str:
        """Return a version that changes when there is something new."""
        run = self._record()
        return _version(run, making_of(self._store, run))

    def text(self) -> str:
        """Return the page as HTML. Raises `MathQuarryError` if a file of the store cannot be read."""
        with self._lock:
            for _ in range(ATTEMPTS):
                run = self._record()
                making = making_of(self._store, run)
                version = _version(run, making)
                if self._made is None or self._made[0] != version:
                    try:
                        self._made = version, self._make(run, making, version)
                    except FileNotFoundError:  # the stage has ended, and its work folder is gone
                        continue
                return self._made[1]
        raise MathQuarryError(f"run {self._run} changes too fast for a page. Load it again.")

    def _record(self) -> dict[str, Any]:
        run = self._store.run(self._run)
        if lacking := RECORDED - run.keys():
            raise MathQuarryError(f"{self._store.run_path(self._run)} is damaged: it has no {', '.join(sorted(lacking))}.")
        at_work = run.get("at_work")
        if at_work is not None and not (isinstance(at_work, dict) and {"name", "stage"} <= at_work.keys()):
            raise MathQuarryError(f"{self._store.run_path(self._run)} is damaged: at_work is {at_work!r}, without a name and a stage.")
        return run

    def _make(self, run: dict[str, Any], making: Making | None, version: str) -> str:
        published = report_artifacts(self._store.url, stages_of(run))
        with snapshot(making, run["at_work"]["name"]) if making else nullcontext() as now:
            return running_page(run, published, now, version)


def _version(run: dict[str, Any], making: Making | None) -> str:
    """Hash what the page depends on: the run's record, and the size of the metrics."""
    metrics = making.scratch / "metrics.jsonl" if making else None
    size = metrics.stat().st_size if metrics and metrics.exists() else 0
    told = f"{run['status']} {run.get('at_work')} {[stage['key'] for stage in run['stages']]} {making.key if making else ''} {size}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def server_of(store_url: str, name: str | None, port: int) -> tuple[ThreadingHTTPServer, str]:
    """Return a server for the page of a run, on this machine's own address, and the run's id.

    `name` is the id or the beginning of it; `None` selects the latest run. Raises `MathQuarryError` if there is no such run, or if the port
    is taken.
    """
    store = Store(store_url)
    run = find_run(store, name) if name else next(reversed(store.runs([])), None)
    if run is None:
        what = f"run {name} (`mathquarry ledger ls --runs` lists them)" if name else "recorded run. `mathquarry run` makes one"
        raise MathQuarryError(f"{store.url} has no {what}.")
    found = str(run.get("id"))
    page = RunPage(store, found)

    class Handler(_Handler):
        shown = page

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler), found
    except (OSError, OverflowError) as error:
        raise MathQuarryError(f"port {port} cannot be used: {error}. Choose another with --port.") from None


def watch(store_url: str, name: str | None, port: int) -> None:
    """Serve the page until the command is interrupted."""
    server, run = server_of(store_url, name, port)
    with server:
        print(f"run {run}: http://127.0.0.1:{server.server_port}/ (Ctrl-C stops the server, not the run)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


class _Handler(BaseHTTPRequestHandler):
    """Serves the page at `/`, and its version at `/version`.

    The host in a request must be this machine's own name. Otherwise a web page from elsewhere could read these pages (DNS rebinding).
    """

    shown: RunPage
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the page, its version, or an error."""
        if self.headers.get("Host", "").rsplit(":", 1)[0] not in ("127.0.0.1", "localhost"):
            self._answer(403, "text/plain", "This page is only served to this machine, at http://127.0.0.1\n")
            return
        pages = {"/": ("text/html", self.shown.text), "/version": ("text/plain", self.shown.version)}
        if self.path not in pages:
            self._answer(404, "text/plain", "Not found. The page is at /\n")
            return
        kind, make = pages[self.path]
        try:
            self._answer(200, kind, make())
        except MathQuarryError as error:
            self._answer(500, "text/plain", f"{error}\n")

    def _answer(self, status: int, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Do not log requests."""
