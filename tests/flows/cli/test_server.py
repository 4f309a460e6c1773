"""The server of an embedded run, in a folder that others use too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

START = """
import sys, urllib.request
from pathlib import Path
from mathquarry.flows.cli.server import embedded_server
with embedded_server(Path(sys.argv[1]), meanwhile=lambda: None) as url:
    request = urllib.request.Request(f"{url}/flows/", b'{"name": "flow"}', {"content-type": "application/json"})
    print(urllib.request.urlopen(request).status)
    print("up", flush=True)
    sys.stdin.read()
"""


def test_two_first_runs_in_one_store_make_its_database_one_after_the_other(tmp_path: Path) -> None:
    start = [sys.executable, "-c", START, str(tmp_path)]
    runs = [subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    # Both are up before either ends.
    said = [until_up(run) for run in runs]
    assert all(lines.endswith("up\n") for lines in said), said
    for run in runs:
        run.communicate()
        assert run.returncode == 0
    assert not list(tmp_path.glob("*.log"))


def until_up(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    lines = ""
    while not lines.endswith("up\n") and (line := run.stdout.readline()):
        lines += line
    return lines
