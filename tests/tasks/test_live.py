"""What the Prefect UI shows of a stage while it works."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.tasks.live import rollout_page


def write(path: Path, texts: list[str], step: int = 7, question: str = "What is 1 + 1?") -> Path:
    """Completions of one question, the first of them right."""
    rows = [
        {"iteration": 1, "step": step, "question": question, "gold": "2", "group": 0, "sample": sample, "text": text}
        | {"step_rewards": [0.5], "reward": 1.0 - sample, "advantage": [0.1], "correct": sample == 0, "finished": sample < 2}
        for sample, text in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_completions_of_the_highest_and_the_lowest_reward_are_shown_with_their_verdicts(tmp_path: Path) -> None:
    page = rollout_page(write(tmp_path / "step.parquet", ["two", "three", "four"]))
    assert page.startswith("## Completions of step 7\n")
    assert "**1 of 3 correct**" in page
    assert "Right, reward 1.000:\n\n```\ntwo\n```" in page
    assert "Wrong, cut off, reward -1.000:\n\n```\nfour\n```" in page
    assert "three" not in page


@pytest.mark.parametrize(
    "text", ["```\n# out", "a ````` b\n````", "<script>alert(1)</script>", "![x](https://elsewhere.example/x.png)", "\n```"]
)
def test_what_a_model_wrote_stays_in_its_code_block(tmp_path: Path, text: str) -> None:
    page = rollout_page(write(tmp_path / "step.parquet", [text], question=text))
    outside, fence = [], None
    for line in page.splitlines():
        if fence is None and re.fullmatch("`{3,}", line):
            fence = line
        elif line == fence:
            fence = None
        elif fence is None:
            outside.append(line)
    assert fence is None
    assert not any(part in line for line in outside for part in ("out", "a `", "script", "elsewhere"))


def test_control_characters_that_the_servers_database_refuses_are_replaced_and_long_texts_cut(tmp_path: Path) -> None:
    page = rollout_page(write(tmp_path / "step.parquet", ["a\x00b\x1b[2Jc", "x" * 9000]))
    assert "a b [2Jc" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page)
    assert "[…]" in page
    assert len(page) < 5000


STAGE = """
import os, sys, threading, time
from pathlib import Path
from mathquarry.flows.cli.server import embedded_server, quieten
home = Path(sys.argv[1]) / "prefect"
quieten(home)
with embedded_server(home, meanwhile=lambda: None):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter
    from prefect.context import refresh_global_settings_context
    refresh_global_settings_context()
    import mathquarry.tasks.live as live
    from mathquarry.tasks.stage import produce
    from tests.tasks.test_live import write
    live.UI_SECONDS = live.REFRESH_SECONDS = 0.05

    def artifacts():
        with get_client(sync_client=True) as client:
            found = client.read_artifacts()
        return {artifact.key or artifact.description: artifact for artifact in found}

    def until(seen):
        end = time.monotonic() + 300
        while not (found := [artifact for name, artifact in artifacts().items() if seen(name, artifact)]):
            assert time.monotonic() < end, [(name, str(artifact.data)[:80]) for name, artifact in artifacts().items()]
            time.sleep(0.1)
        return found[0]

    def work(workspace, inputs):
        with workspace.progress.track("grpo 1", 9, "step") as bar:
            for step in (1, 2):
                workspace.metrics.log(step, reward=0.125 * step)
            (workspace.scratch / "rollouts").mkdir()
            write(workspace.scratch / "rollouts" / "step-000002.parquet", ["two"], step=2)
            first = until(lambda name, one: name.endswith("-chart"))
            page = until(lambda name, one: name.endswith("-rollouts"))
            assert "Completions of step 2" in page.data
            workspace.metrics.log(3, reward=0.5)
            write(workspace.scratch / "rollouts" / "step-000003.parquet", ["drei"], step=3)
            moved = until(lambda name, one: name.endswith("-chart") and one.data != first.data)
            assert moved.id == first.id
            until(lambda name, one: name.endswith("-rollouts") and "drei" in one.data and one.id == page.id)
            bar.note(reward=0.5)
            bar.advance(3)
        until(lambda name, one: name.startswith("grpo 1: step 3 of 9, reward 0.5") and 33 < float(one.data) < 34)
        workspace.metrics.log(4, reward=0.75)
        return {"steps": 4}

    @flow
    def stage():
        return produce(sys.argv[1], "grpo", 1, {"iteration": 1}, {}, work)

    stage()
    print(sum((artifact.key or "").endswith("-chart") for artifact in artifacts().values()))
    chart = next(artifact for artifact in artifacts().values() if (artifact.key or "").endswith("-chart"))
    print(chart.description)
    print(chart.data)
"""


@pytest.mark.slow
def test_a_running_stages_curve_moves_in_place_on_a_real_server(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run([sys.executable, "-c", STAGE, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    count, description, picture = done.stdout.splitlines()
    assert count == "1"
    assert description == "grpo: reward, to step 4"
    assert "0.125 → 0.75" in base64.b64decode(picture.partition(",")[2]).decode()
