"""A run whose stage `grpo` is at work, for tests of what is shown of it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.store.store import Artifact, Identity, Store
from mathquarry.data.store.workspace import MetricLog, Progress, Workspace

RUN = "20310504-101112-aaaaaa"
HOSTILE = '</pre><script>alert(1)</script><img src="https://elsewhere.example/x.png">'


def make(store: Store, stage: str, summary: dict[str, Any], **inputs: Artifact) -> Artifact:
    """A finished artifact."""
    return store.build(Identity(stage, 1, {}, {role: other.key for role, other in inputs.items()}), lambda workspace: summary)


class AtWork:
    """A stage `grpo` that works until the test lets it end."""

    def __init__(self, store: Store, config: dict[str, Any], **inputs: Artifact) -> None:
        self._store = store
        self._identity = Identity("grpo", 1, {"grpo": config, "iteration": 1}, {role: other.key for role, other in inputs.items()})
        self._begun, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._build, daemon=True)
        self._thread.start()
        assert self._begun.wait(60)

    def _build(self) -> None:
        def work(workspace: Workspace) -> dict[str, Any]:
            self._begun.set()
            assert self._may_end.wait(300)
            return {"steps": 3}

        self._store.build(self._identity, work, progress=Progress(quiet=True))

    @property
    def key(self) -> str:
        return self._identity.key

    @property
    def scratch(self) -> Path:
        return self._store.root / "work" / self.key / "scratch"

    def log(self, step: int, **metrics: float) -> None:
        MetricLog(self.scratch / "metrics.jsonl").log(step, **metrics)

    def roll_out(self, step: int, text: str, question: str = "What is 1 + 1?") -> None:
        """Two completions of a question, the first of them right."""
        rows = [
            {"iteration": 1, "step": step, "question": question, "gold": "2", "group": 0, "sample": sample, "text": f"{text} ({sample})"}
            | {"step_rewards": [0.5], "reward": 0.5, "advantage": [0.1], "correct": sample == 0, "finished": True}
            for sample in range(2)
        ]
        path = self.scratch / "rollouts" / f"step-{step:06d}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)

    def end(self) -> Artifact:
        """Let the stage end; its artifact."""
        self._may_end.set()
        self._thread.join()
        return self._store.get("grpo", self.key)


def at_work(name: str | None) -> dict[str, str] | None:
    """The stage at work in a run's record. In these tests, its stage is the first word of its name."""
    return {"name": name, "stage": name.partition("-")[0]} if name else None


def record(store: Store, made: dict[str, Artifact], name: str | None, status: str = "running") -> dict[str, Any]:
    """Write down how far the run is, with the stage `name` at work; returns its record."""
    stages = [{"name": name, "stage": artifact.stage, "key": artifact.key, "reused": False} for name, artifact in made.items()]
    run = {"id": RUN, "recipe": "own", "started": "2021-05-04T10:11:12Z", "ended": None, "status": status, "at_work": at_work(name)}
    store.write_run(run | {"config": {"name": "own", "grpo": {"steps": 9, "seed": 1}}, "stages": stages})
    return store.run(RUN)


@contextmanager
def running(root: Path) -> Iterator[tuple[Store, dict[str, Artifact], AtWork]]:
    """The store, what is made, and the stage at work after two steps."""
    store = Store(root)
    made = {"problems": make(store, "problems", {"train": 10})}
    made["sft"] = make(store, "sft", {"loss": 0.5}, problems=made["problems"])
    record(store, made, "grpo-1")
    grpo = AtWork(store, {"steps": 9}, policy=made["sft"], problems=made["problems"])
    for step in (1, 2):
        grpo.log(step, reward=0.125 * step, accuracy=0.25, kl=0.003)
        grpo.roll_out(step, f"The answer of step {step} {HOSTILE}")
    try:
        yield store, made, grpo
    finally:
        grpo.end()
