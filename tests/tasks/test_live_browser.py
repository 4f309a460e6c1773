"""The Prefect UI in a browser: the curve of a running stage moves, and what a model wrote is text."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
HOSTILE = '<img src=x onerror="document.title=1">\n```\n![x](https://elsewhere.example/x.png)'

STAGE = """
import sys, time
from pathlib import Path
from prefect import flow
import mathquarry.tasks.live as live
from mathquarry.tasks.stage import produce
from tests.tasks.test_live import write
live.UI_SECONDS = live.REFRESH_SECONDS = 0.5
folder, text = Path(sys.argv[1]), sys.argv[2]

def work(workspace, inputs):
    with workspace.progress.track("grpo 1", 9, "step"):
        (workspace.scratch / "rollouts").mkdir()
        write(workspace.scratch / "rollouts" / "step-000002.parquet", [text], step=2)
        for step in range(1, 9):
            workspace.metrics.log(step, reward=0.125 * step)
            while step > 1 and not (folder / f"after-{step}").exists():
                time.sleep(0.1)
            if (folder / "end").exists():
                return {"steps": step}

@flow(name="grpo")
def stage():
    return produce(str(folder / "store"), "grpo", 1, {"iteration": 1}, {}, work)

stage()
"""


class Server:
    """Prefect's server with its UI."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = {**kept, "PREFECT_HOME": str(home), "PREFECT_API_URL": f"{self.url}/api", "DO_NOT_TRACK": "1"}
        settings = {"PREFECT_SERVER_UI_API_URL": f"{self.url}/api", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        with (home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
                env=self.environment | settings,
                stdout=log,
                stderr=log,
            )

    def artifacts(self) -> dict[str, dict[str, Any]]:
        """By the last word of their keys."""
        found = httpx.post(f"{self.url}/api/artifacts/filter", json={}, timeout=60).json()
        return {artifact["key"].rsplit("-", 1)[-1]: artifact for artifact in found if artifact["key"]}


def until(condition: Callable[[], Any], what: str, seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except (httpx.HTTPError, KeyError):
            pass
        time.sleep(0.2)
    pytest.fail(f"it did not come: {what}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("prefect"))
    try:
        until(lambda: httpx.get(f"{started.url}/api/health", timeout=10).is_success, "the server")
        yield started
    finally:
        started.process.terminate()
        started.process.wait(timeout=60)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright; `make test-serve` installs it")
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs Chromium; `make test-serve` installs it")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=executable, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce")
        opened.set_default_timeout(120_000)
        yield opened
        browser.close()


def test_the_curve_of_a_running_stage_moves_and_completions_are_text(server: Server, page: Page, tmp_path: Path) -> None:
    stage = subprocess.Popen([sys.executable, "-c", STAGE, str(tmp_path), HOSTILE], env=server.environment)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    try:
        chart = until(lambda: server.artifacts()["chart"], "the chart")
        page.goto(f"{server.url}/v2/artifacts/artifact/{chart['id']}")
        assert "0.125 → 0.25" in drawn(page)
        assert stage.poll() is None
        (tmp_path / "after-2").touch()
        until(lambda: server.artifacts()["chart"]["description"] == "grpo: reward, to step 3", "the third step")
        page.reload()
        assert "0.125 → 0.375" in drawn(page)
        assert stage.poll() is None

        rollouts = until(lambda: server.artifacts()["rollouts"], "the completions")
        page.goto(f"{server.url}/v2/artifacts/artifact/{rollouts['id']}")
        page.get_by_text("Completions of step 2").first.wait_for()
        page.get_by_text("elsewhere.example/x.png").first.wait_for()
        assert page.title() != "1"
        assert page.locator('img[src="x"]').count() == 0
        assert not any("elsewhere.example" in url for url in asked)
    finally:
        (tmp_path / "end").touch()
        (tmp_path / "after-3").touch()
        assert stage.wait(timeout=300) == 0
    assert server.artifacts()["chart"]["id"] == chart["id"]


def drawn(page: Page) -> str:
    """The picture that the page shows, as SVG."""
    image = page.locator('img[src^="data:image/svg+xml"]').first
    image.wait_for()
    assert image.evaluate("(image) => image.complete && image.naturalWidth > 0")
    return base64.b64decode(str(image.get_attribute("src")).partition(",")[2]).decode()
