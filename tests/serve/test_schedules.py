"""The runs that schedules start: the next iteration after the newest finished run, and mining of new snapshots."""

from __future__ import annotations

import pytest

from tests.serve.conftest import ServedRun
from tests.serve.stack import MINI, Stack

pytestmark = [pytest.mark.slow, pytest.mark.serve]


def test_an_iteration_continues_the_newest_run_and_the_next_one_continues_it(stack: Stack, served_run: ServedRun) -> None:
    # Of two at once, one is cancelled, not queued. A worker that fetches both together may begin with either.
    pair = [stack.trigger("grpo-iteration", {"go_on": {"recipe": "tiny"}}) for _ in range(2)]
    ended = {stack.finished(each, None)["state"]["type"]: each for each in pair}
    assert set(ended) == {"COMPLETED", "CANCELLED"}
    run_id = ended["COMPLETED"]
    children = stack.children(run_id)
    assert set(children) == {"reward-1", "grpo-2", "evaluate-rl-2", "report"}
    keys = stack.keys(run_id)
    assert children["grpo-2"]["parameters"]["policy"] == f"grpo/{keys['grpo-1']}"
    assert children["reward-1"]["parameters"]["history"] == [f"reward/{keys['reward-0']}"]
    assert children["grpo-2"]["parameters"]["reward"] == f"reward/{keys['reward-1']}"
    assert {"sft", "grpo-1", "grpo-2", "evaluate-rl-2", "report"} <= set(keys)


def test_each_new_snapshot_is_mined_once(stack: Stack, served_run: ServedRun) -> None:
    form = {"snapshots": {"recipe": "tiny", "snapshots": "/data/crawls", "overrides": MINI}}
    for newest, expected in (("first", {"mine-first": "made"}), ("second", {"mine-first": "found", "mine-second": "made"})):
        stack.in_store(
            "import glob, os, shutil; "
            f"os.makedirs('/data/crawls/{newest}', exist_ok=True); "
            f"shutil.copy(sorted(glob.glob('/store/artifacts/{served_run.reference('crawl')}/warc/*.warc.gz'))[{newest == 'second':d}], "
            f"'/data/crawls/{newest}/')"
        )
        run_id = stack.trigger("mine-snapshots", form)
        stack.finished(run_id)
        said = {name: run["state"]["message"].split()[0] for name, run in stack.children(run_id).items()}
        assert {name: word for name, word in said.items() if name.startswith("mine-")} == expected
