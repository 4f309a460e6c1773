"""Runs of the command line in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SMALL = [
    "problems.source.train=300",
    "problems.source.test=60",
    "crawl.source.pages=300",
    "crawl.source.domains=12",
    "crawl.source.warc_files=3",
    "crawl.source.near_duplicates=12",
    "crawl.source.url_duplicates=6",
    "crawl.source.contaminated=8",
    "mine.token_budgets=[30000]",
    "mine.seed_pages.positives=40",
    "mine.seed_pages.negatives=40",
    "mine.max_rounds=2",
    "pretrain.total_tokens=24576",
    "pretrain.batch_tokens=4096",
    "pretrain.checkpoint_steps=2",
    "pretrain.schedule.warmup_steps=2",
    "sft.steps=6",
    "sft.batch_tokens=4096",
    "sft.checkpoint_steps=2",
    "sft.schedule.warmup_steps=2",
    "reward.supervision=process",
    "reward.label.completions=2",
    "reward.questions=16",
    "reward.batch_tokens=2048",
    "reward.checkpoint_steps=2",
    "refresh.questions=8",
    "grpo.supervision=process",
    "grpo.steps=4",
    "grpo.prompts_per_step=4",
    "grpo.group_size=4",
    "grpo.checkpoint_steps=1",
    "evaluate.questions=24",
    "evaluate.k=2",
]
"""The `tiny` recipe reduced to seconds. It learns nothing; the tests check that every stage runs, stops, resumes and repeats."""


@dataclass(frozen=True)
class CommandLine:
    """Starts `mathquarry` in its own process group."""

    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mathquarry.flows", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        """The command's output. Fails the test if it ends with another status."""
        process = self.start(*arguments)
        output, _ = process.communicate()
        assert process.returncode == status, output
        return output

    def tiny(self, store: Path, *arguments: str) -> list[str]:
        return ["run", "tiny", "--store", str(store), *(part for field in SMALL for part in ("--set", field)), *arguments]

    def kill(self, process: subprocess.Popen[str]) -> None:
        """kill -9 for the process and all its children. Fails the test if the process had ended with an error before."""
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), output
