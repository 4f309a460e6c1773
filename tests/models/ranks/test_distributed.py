"""Several ranks, started as a stage starts them: real processes under torchrun's launcher, over gloo."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Progress, Workspace
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.launch import launch, main
from tests.models.rank_faults import fail
from tests.models.rank_work import learn

pytestmark = pytest.mark.slow


def expect_equal(many: dict, one: dict) -> None:
    assert many["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert many["norms"] == pytest.approx(one["norms"], rel=1e-5)
    for name, weight in one["weights"].items():
        torch.testing.assert_close(many["weights"][name], weight, atol=1e-5, rtol=1e-5)


def test_three_ranks_learn_what_one_learns_each_holding_its_share(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    workspace = Workspace.at(tmp_path, Progress([lambda reading: heard.append((reading.what, reading.done, reading.total))]))
    one = learn(Workspace.at(tmp_path / "one"))
    three = launch(learn, (), RanksConfig(processes=3), workspace, "learn")
    expect_equal(three, one)
    assert sum(three["held"]) == one["held"][0]
    assert max(three["held"]) < 0.5 * one["held"][0]
    assert three["largest"] == 2.0
    assert three["from_first"] == "rank 0"
    assert heard[-1] == ("learn", 2, 2)
    assert not list(workspace.scratch.iterdir())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("expected", "^rank 1 does not like it$"),
        ("kill", r"rank 1 \(process \d+\) was ended by SIGKILL; .* Run again"),
        ("bug", r"rank 1 \(process \d+\) ended with exit code 1 \(AttributeError: .*a bug"),
    ],
)
def test_a_rank_that_fails_is_named_with_its_reason(tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(MathQuarryError, match=message):
        launch(fail, (how,), RanksConfig(processes=2), Workspace.at(tmp_path), "fail")


def test_ranks_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\nfrom mathquarry.data.store.workspace import Workspace\n"
        "from mathquarry.models.ranks.config import RanksConfig\n"
        "from mathquarry.models.ranks.launch import launch\nfrom tests.models.rank_faults import wait_for_ever\n"
        f"launch(wait_for_ever, (), RanksConfig(processes=2), Workspace.at(Path({str(tmp_path)!r})), 'wait')\n"
    )
    stage = subprocess.Popen([sys.executable, "-c", program])
    files = [tmp_path / "out" / f"pid-{rank}" for rank in range(2)]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    ranks = [int(file.read_text()) for file in files]
    until(lambda: not any(running(rank) for rank in ranks))


def test_a_second_machine_joins_by_the_rendezvous_address(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = RanksConfig(processes=1, nodes=2, rendezvous=f"127.0.0.1:{port}")
    workspace = Workspace.at(tmp_path)
    job = workspace.scratch.resolve() / "learn-ranks" / "job.pickle"
    program = (
        "import time\nfrom pathlib import Path\nfrom mathquarry.models.ranks.launch import main\n"
        f"while not Path({str(job)!r}).exists(): time.sleep(0.1)\ntime.sleep(0.5)\nmain([{str(job.parent)!r}])\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program])
    try:
        two = launch(learn, (), config, workspace, "learn")
    finally:
        other.kill()
    expect_equal(two, learn(Workspace.at(tmp_path / "one")))
    assert len(two["held"]) == 2


@pytest.mark.parametrize("loosened", ["job.pickle", "."])
def test_a_job_that_others_can_write_is_not_unpickled(tmp_path: Path, loosened: str) -> None:
    folder = tmp_path / "learn-ranks"
    folder.mkdir(mode=0o700)
    (folder / "job.pickle").write_bytes(pickle.dumps(Planted(str(tmp_path / "ran"))))
    (folder / loosened).chmod(0o770)
    with pytest.raises(MathQuarryError, match="can be written by users other than"):
        main([str(folder)])
    assert not (tmp_path / "ran").exists()


def test_a_job_behind_a_link_is_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(pickle.dumps(Planted(str(tmp_path / "ran"))))
    (tmp_path / "job.pickle").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MathQuarryError, match="cannot be read"):
        main([str(tmp_path)])
    assert not (tmp_path / "ran").exists()


class Planted:
    """A pickle that creates a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


def test_several_machines_need_an_address() -> None:
    with pytest.raises(ValidationError, match="nodes is 2, so rendezvous must be set"):
        RanksConfig(nodes=2)


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
