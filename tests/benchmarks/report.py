"""The report of a run with 100,000 rollouts: time to build and to open it, its size, and the memory that the build needs.

    python -m tests.benchmarks.report [--repeats 5]

The run is made up (tests/data/report/report_run.py), in the files' real formats. The page is opened from its file by a new headless
Chromium each time, without a network: until its load event has ended (`loadEventEnd` of its navigation), and until the charts in the
window are drawn. On a busy machine the processor time that the page's main thread took until then says more. Errors that the page writes
to the console, its violations of its own policy, requests that it makes and charts that are not there when it is printed end the benchmark.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pickle
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from tests.data.report.report_run import make_run

SIZES = {"steps": 49, "questions": 16, "completions": 64, "lines": 20, "tokens": 250}
"""Of each of the two iterations: 100,352 completions of 21 lines in all."""

BROWSER = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "about:blank",
)
TIMES = """(() => {
  const loaded = performance.getEntriesByType('navigation')[0].loadEventEnd * (location.protocol === 'file:');
  const inView = [...document.querySelectorAll('.plot')].filter((plot) => plot.getBoundingClientRect().top < innerHeight);
  return [loaded, loaded && inView.every((plot) => plot.querySelector('.main-svg')) ? performance.now() : 0];
})()"""
PRINTED = "dispatchEvent(new Event('beforeprint')), document.querySelectorAll('.plot:not(:has(.main-svg))').length"
PATIENCE = 60.0
"""Timeout in seconds of the browser and of the page."""


def write_run(folder: Path, **sizes: int) -> None:
    """A run below `folder`, for `build`."""
    made = make_run(folder / "store", **sizes)
    (folder / "run.pickle").write_bytes(pickle.dumps(made))


def measure_build(folder: Path) -> dict[str, float]:
    """Seconds, bytes of the page, and peak memory of a new process before and after the build, in MiB."""
    command = [sys.executable, "-m", "tests.benchmarks.report", "--build", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def build(folder: Path) -> dict[str, float]:
    """Build the report of `write_run` in this process."""
    from mathquarry.data.report.build import build_report

    run, artifacts = pickle.loads((folder / "run.pickle").read_bytes())
    before, started = _peak_mib(), time.perf_counter()
    summary = build_report(run, artifacts, folder)
    return {"seconds": time.perf_counter() - started, "bytes": summary["bytes"], "before_mib": before, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seconds_to_open(page: Path) -> tuple[float, float, float]:
    """Time to the end of the load event, time until the charts in the window are drawn, and processor time until then, in a new browser.

    Raises `SystemExit` for anything that the page does wrong.
    """
    program = next(filter(None, map(shutil.which, BROWSER)), None)
    if program is None:
        raise SystemExit(f"no browser: none of {', '.join(BROWSER)} is installed.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen([program, f"--user-data-dir={profile}", *FLAGS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return _open(page, _port(Path(profile)))
        finally:
            browser.terminate()
            browser.wait()


def _port(profile: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    told = profile / "DevToolsActivePort"
    while not (told.exists() and told.read_text().count("\n")):
        if time.monotonic() > deadline:
            raise SystemExit(f"the browser did not start in {PATIENCE:.0f} s.")
        time.sleep(0.05)
    return int(told.read_text().splitlines()[0])


def _open(page: Path, port: int) -> tuple[float, float, float]:
    from websockets.sync.client import connect

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
        (tab,) = [found for found in json.load(answer) if found["type"] == "page"]
    with connect(tab["webSocketDebuggerUrl"], max_size=None, compression=None) as socket:
        events: list[dict[str, Any]] = []
        sent = 0

        def ask(method: str, **parameters: Any) -> dict[str, Any]:
            nonlocal sent
            sent += 1
            socket.send(json.dumps({"id": sent, "method": method, "params": parameters}))
            while (message := json.loads(socket.recv(timeout=PATIENCE))).get("id") != sent:
                events.append(message)
            return message["result"]

        for domain in ("Page", "Runtime", "Log", "Network"):
            ask(f"{domain}.enable")
        ask("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        ask("Performance.enable", timeDomain="threadTicks")
        ask("Page.navigate", url=page.absolute().as_uri())
        evaluate = partial(ask, "Runtime.evaluate", returnByValue=True)
        loaded, drawn = 0.0, 0.0
        while not drawn:
            time.sleep(0.02)
            loaded, drawn = evaluate(expression=TIMES)["result"].get("value", (0.0, 0.0))
        metrics = {metric["name"]: metric["value"] for metric in ask("Performance.getMetrics")["metrics"]}
        empty = evaluate(expression=PRINTED)["result"]["value"]
    wrong = [event for event in events if _is_wrong(event, page)]
    if wrong or empty:
        raise SystemExit(f"{page} has {empty} charts that were not drawn, and: {json.dumps(wrong)}")
    return loaded / 1000, drawn / 1000, metrics["TaskDuration"]


def _is_wrong(event: dict[str, Any], page: Path) -> bool:
    given = event.get("params", {})
    match event["method"]:
        case "Runtime.exceptionThrown":
            return True
        case "Runtime.consoleAPICalled":
            return given["type"] in ("error", "warning", "assert")
        case "Log.entryAdded":
            return given["entry"]["level"] in ("error", "warning")
        case "Network.requestWillBeSent":
            return not given["request"]["url"].startswith((page.absolute().as_uri(), "data:", "blob:"))
    return False


def main() -> None:
    """Measure, print and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.report", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="builds, and openings of the page (default 5)")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        print(json.dumps(build(options.build)))
        return
    from tests.benchmarks.results import write_section

    columns = ("rollouts", "their files, MB", "build, s", "peak memory, MiB (before the build)", "page, MB")
    columns += ("loaded, s (slowest)", "charts in the window, s (slowest)", "processor time of the page, s (slowest)")
    lines = [f"| {' | '.join(columns)} |", "|" + "---:|" * len(columns)]
    for steps in (SIZES["steps"] // 7, SIZES["steps"]):
        sizes = SIZES | {"steps": steps}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_run(folder, **sizes)
            stored = sum(path.stat().st_size for path in folder.glob("store/*/rollouts.parquet"))
            builds = [measure_build(folder) for _ in range(options.repeats)]
            opened = [seconds_to_open(folder / "report.html") for _ in range(options.repeats)]
        found = {key: statistics.median(built[key] for built in builds) for key in builds[0]}
        rollouts = 2 * sizes["steps"] * sizes["questions"] * sizes["completions"]
        times = [f"{statistics.median(each):.2f} ({max(each):.2f})" for each in zip(*opened, strict=True)]
        row = (
            f"{rollouts:,}",
            f"{stored / 1e6:.0f}",
            f"{found['seconds']:.1f}",
            f"{found['peak_mib']:.0f} ({found['before_mib']:.0f})",
            f"{found['bytes'] / 1e6:.1f}",
            *times,
        )
        lines.append(f"| {' | '.join(row)} |")
    circumstances = (
        f"`python -m tests.benchmarks.report --repeats {options.repeats}`, {datetime.date.today():%d %B %Y}, {os.cpu_count()} cores; "
        f"medians of {options.repeats}, load {os.getloadavg()[0]:.1f} at the end."
    )
    lines = [circumstances, "", *lines]
    print("\n".join(lines))
    write_section("report", lines)


if __name__ == "__main__":
    main()
