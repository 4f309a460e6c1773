"""A headless Chromium that is logged in to the Prefect UI of the stack."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serve.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCREENSHOTS = Path(__file__).parent / "screenshots"


# The graph of a run is drawn for every frame, which takes most of a processor where there is no graphics card. Here it gets four a second.
FEWER_FRAMES = """
const draw = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (callback) => window.setTimeout(() => draw(callback), 250);
window.cancelAnimationFrame = (handle) => window.clearTimeout(handle);
"""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]


# Not for the whole session: a page that stays open goes on drawing, with a processor that the other tests need.
@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Page]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright; `make test-serve` installs it")
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs Chromium; `make test-serve` installs it")
    SCREENSHOTS.mkdir(exist_ok=True)
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce")
        page.add_init_script(FEWER_FRAMES)
        page.set_default_timeout(60_000)
        page.goto(stack.url)
        page.locator("input[type=password]").fill(stack.auth)
        page.get_by_role("button", name="Login").click()
        page.wait_for_url("**/dashboard**")
        yield page
        browser.close()


@pytest.fixture(autouse=True)
def screenshot_of_a_failure(request: pytest.FixtureRequest, page: Page) -> Iterator[None]:
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before:
        page.screenshot(path=SCREENSHOTS / f"failed-{request.node.name}.png", full_page=True)
