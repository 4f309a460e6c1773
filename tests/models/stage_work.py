"""Tiny pretraining, fine-tuning and reward training, for tests that kill them."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.solutions.example import write_examples
from mathquarry.data.store.workspace import MetricLog, Workspace
from mathquarry.models.reward.stage import train_reward
from mathquarry.models.train.config import ScheduleConfig, SFTConfig
from mathquarry.models.train.pretrain import pretrain
from mathquarry.models.train.sft import finetune
from tests.models.reward.test_reward_stage import CONFIG, writes_seven
from tests.models.rl.tiny import ScriptedEngine, save_policy, save_problems
from tests.models.train.test_pretrain_sft import TINY, examples, pretrain_config

Stage = Literal["pretrain", "sft", "reward"]
STEPS = {"pretrain": 9, "sft": 9, "reward": 40}


class DeadlyLog(MetricLog):
    """A metric log that kills the process, as `kill -9` does, after it has written a step."""

    def __init__(self, path: Path, step: int) -> None:
        super().__init__(path)
        self.step = step

    def log(self, step: int, **values: float | int | None) -> None:
        super().log(step, **values)
        if step == self.step and "learning_rate" in values:
            os.kill(os.getpid(), signal.SIGKILL)


def make_inputs(folder: Path) -> None:
    """The inputs of the three stages."""
    corpus = folder / "mined" / "corpus"
    corpus.mkdir(parents=True)
    pq.write_table(pa.table({"text": [f"Page {i}: the sum of {i} and 3 is {i + 3}." for i in range(60)]}), corpus / "part-0000.parquet")
    sums = [Problem(str(i), f"Tom has {i} apples and gets 2. How many?", str(i + 2), f"{i} + 2 = {i + 2}") for i in range(9)]
    write_problems(folder / "problems" / "train.jsonl", sums)
    save_problems(folder / "questions", 60)
    save_policy(folder / "policy")
    write_examples(folder / "solutions" / "examples.jsonl", examples())


def run(stage: Stage, inputs: Path, workspace: Workspace) -> None:
    """The stage's library function; its checkpoint ends in `workspace.out / "model"`."""
    if stage == "pretrain":
        pretrain(TINY, pretrain_config(total_tokens=128 * STEPS[stage]), inputs / "mined", inputs / "problems", workspace)
    elif stage == "sft":
        config = SFTConfig(batch_tokens=256, context_tokens=128, steps=STEPS[stage], precision="float32", checkpoint_steps=2)
        finetune(config, inputs / "policy", [inputs / "solutions"], workspace)
    else:
        config = CONFIG.model_copy(update={"checkpoint_steps": 3, "schedule": ScheduleConfig(kind="cosine", warmup_steps=2)})
        train_reward(config, inputs / "policy", inputs / "policy", inputs / "questions", workspace, ScriptedEngine(writes_seven))


if __name__ == "__main__":
    name, inputs, room, last_step = sys.argv[1:]
    workspace = Workspace.at(Path(room))
    run(name, Path(inputs), replace(workspace, metrics=DeadlyLog(workspace.metrics.path, int(last_step))))  # type: ignore[arg-type]
