"""The report in a browser: nothing is cut on paper or on a narrow screen, and every chart is drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mathquarry.data.report.build import build_report
from mathquarry.data.report.runs.compare_runs import build_comparison
from tests.data.report.report_arms import grid, make_two_runs
from tests.data.report.report_run import make_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
A4 = 703
"""CSS pixels between the margins."""

CUT = """() => [...document.querySelectorAll("table, .plot svg, .bars, .tiles, .warnings, .findings, .picture svg")]
  .filter((part) => part.getClientRects().length && !part.parentElement.closest("svg"))
  .filter((part) => {
    const box = part.getBoundingClientRect();
    let room = document.documentElement.clientWidth;
    for (let around = part.parentElement; around; around = around.parentElement)
      if (around.matches(".block, .top, main")) room = Math.min(room, around.getBoundingClientRect().right);
    return box.right > room + 1 || box.left < -1 || part.scrollWidth > part.clientWidth + 1 && part.matches("table");
  })
  .map((part) => `${(part.closest(".block") || part).id || part.className} ${part.tagName}`)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright; `make test-serve` installs it")
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs Chromium; `make test-serve` installs it")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=executable, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["run", "side by side", "grid"])
def html(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    if request.param == "run":
        build_report(*make_run(folder / "run"), folder)
    elif request.param == "side by side":
        build_comparison([(run.record, run.artifacts) for run in make_two_runs(folder / "runs")], folder)
    else:
        record = {"id": "r", "recipe": "tiny", "started": "", "stages": []}
        build_report(record, grid(folder / "grid"), folder)
    return folder / "report.html"


def opened(browser: Browser, html: Path, width: int) -> tuple[Page, list[str]]:
    page = browser.new_page(viewport={"width": width, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(html.as_uri())
    return page, errors


def test_on_paper_nothing_is_cut_and_every_chart_is_drawn(browser: Browser, html: Path) -> None:
    page, errors = opened(browser, html, 1200)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4, "height": 1000})
    assert page.evaluate(CUT) == []
    charts = page.locator(".plot").count()
    assert charts >= 3
    assert page.evaluate("[...document.querySelectorAll('.plot')].filter((place) => place.querySelector('.main-svg')).length") == charts
    assert page.pdf().startswith(b"%PDF")
    assert errors == []
    page.close()


def test_a_dark_screen_prints_light_and_is_dark_again_afterwards(browser: Browser, html: Path) -> None:
    page, _ = opened(browser, html, 1200)
    page.emulate_media(color_scheme="dark")
    colour = "getComputedStyle(document.documentElement).getPropertyValue('--text').trim()"
    dark = page.evaluate(colour)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(colour) == "#1d2126" != dark
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(colour) == dark
    page.close()


@pytest.mark.parametrize("width", [1200, 390])
def test_on_a_screen_the_page_itself_never_scrolls_sideways(width: int, browser: Browser, html: Path) -> None:
    page, errors = opened(browser, html, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []
    page.close()


def test_a_link_of_a_sentence_leads_to_its_figure(browser: Browser, html: Path) -> None:
    page, _ = opened(browser, html, 1200)
    links = page.locator(".see a")
    target = str(links.first.get_attribute("href"))
    links.first.click()
    assert page.url.endswith(target)
    assert page.locator(target).bounding_box()["y"] < 900  # type: ignore[index]
    page.close()
