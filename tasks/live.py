"""Shows a running stage in the Prefect UI: its progress, the curves of its metrics, and some completions.

A thread sends the requests, so a slow or unreachable server does not delay the stage.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_progress_artifact

from mathquarry.data.store.display import Reading
from mathquarry.data.store.polling import every
from mathquarry.data.store.tail import MetricTail
from mathquarry.tasks.ui import MARKUP, escaped, server_may_be_away, show_chart, update_artifact

UI_SECONDS = 5.0
"""Time between two updates of progress in the Prefect UI. Each update is a request to the server."""
REFRESH_SECONDS = 30.0
"""Minimum time between two updates of the chart and the completions."""
LOG_SECONDS = 30.0
"""Minimum time between two log lines about the same piece of work."""
QUESTIONS = 2
"""Number of questions shown, from the latest step."""
COMPLETIONS = 2
"""Completions shown per question: those with the highest and the lowest reward."""
MOST_CHARACTERS = 2000
"""Maximum length of a shown question or completion. The page is sent many times, so it must be small."""


class StagePage:
    """The Prefect artifacts of one stage: created when there is something to show, then updated in place."""

    def __init__(self, stage: str, name: str) -> None:
        self._stage, self._name = stage, name
        self._log = get_run_logger()
        self._logged: dict[str, float] = {}
        self._readings: dict[str, Reading] = {}
        self._shown: dict[str, Reading] = {}
        self._bars: dict[str, UUID] = {}
        self._steps = 0
        self._rollouts: tuple[Path, UUID] | None = None
        self.chart: UUID | None = None

    @property
    def is_logged(self) -> bool:
        """Whether the run's logger accepts progress lines."""
        return self._log.isEnabledFor(logging.INFO)

    def __call__(self, reading: Reading) -> None:
        """Receive a reading of progress. It is logged here; the thread shows it."""
        self._readings[reading.what] = reading
        now = time.monotonic()
        if reading.ended or now - self._logged.get(reading.what, -LOG_SECONDS) >= LOG_SECONDS:
            self._log.info("%s", reading.line)
            self._logged[reading.what] = now

    @contextmanager
    def following(self, metrics: Path, scratch: Path) -> Iterator[None]:
        """While the block runs, show the readings, the metrics in the file `metrics`, and the completions in `scratch`."""
        tail, refreshed = MetricTail(metrics), time.monotonic()

        def look(last: bool) -> None:
            nonlocal refreshed
            self.show_progress()
            if last or time.monotonic() - refreshed >= REFRESH_SECONDS:
                refreshed = time.monotonic()
                self.show_curves(tail)
                self.show_rollouts(scratch / "rollouts")

        with every(UI_SECONDS, look, f"the page of {self._name}"):
            yield

    def show_progress(self) -> None:
        """Create or update the progress bar of each piece of work with a new reading."""
        for what, reading in list(self._readings.items()):
            if self._shown.get(what) is reading:
                continue
            # A total can be an estimate that is too low.
            share = min(100.0, 100.0 * reading.done / max(reading.total, 1))
            with server_may_be_away():
                if what in self._bars:
                    update_artifact(self._bars[what], share, reading.line)
                else:
                    self._bars[what] = cast(UUID, create_progress_artifact(progress=share, description=reading.line))
                self._shown[what] = reading

    def show_curves(self, tail: MetricTail) -> None:
        """Create or update the chart, if there are new metrics."""
        records = tail.look()
        if len(records) != self._steps:
            with server_may_be_away():
                self.chart = show_chart(self._stage, self._name, records, self.chart)
                self._steps = len(records)

    def show_rollouts(self, folder: Path) -> None:
        """Create or update the page of completions, if there is a new step."""
        newest = max(folder.glob("step-*.parquet"), default=None)
        if newest is None or (self._rollouts and self._rollouts[0] == newest):
            return
        text = rollout_page(newest)
        with server_may_be_away():
            if self._rollouts:
                update_artifact(self._rollouts[1], text)
                self._rollouts = newest, self._rollouts[1]
            else:
                key = f"{self._name}-rollouts"
                made = create_markdown_artifact(text, key=key, description=f"{self._stage}: some completions")
                self._rollouts = newest, cast(UUID, made)


def rollout_page(path: Path) -> str:
    """Return some completions of one step as Markdown. Model output is in code blocks, so it cannot act as markup."""
    from mathquarry.data.report.sections.rollouts import newest_groups  # pyarrow is slow to import, and most stages do not need it

    step, groups = newest_groups(path, QUESTIONS)
    lines = [f"## Completions of step {step:,}", ""]
    for group in groups:
        lines += [
            f"**{MARKUP.sub(escaped, group.tally)}**, gold answer:",
            "",
            *_block(group.gold),
            "Question:",
            "",
            *_block(group.question),
        ]
        shown = group.samples if len(group.samples) <= COMPLETIONS else [group.samples[0], group.samples[-1]]
        for sample in shown:
            verdict = f"{'Right' if sample.correct else 'Wrong'}{'' if sample.finished else ', cut off'}"
            reward = "" if sample.reward is None else f", reward {sample.reward:.3f}"
            lines += [f"{verdict}{reward}:", "", *_block("".join(step.text for step in sample.steps))]
    return "\n".join(lines)


def _block(text: str) -> list[str]:
    """Return a code block that the text cannot close. Control characters are replaced, because PostgreSQL may refuse them."""
    plain = re.sub(r"[^\S\n ]|[\x00-\x08\x0e-\x1f\x7f]", " ", text)
    plain = plain if len(plain) <= MOST_CHARACTERS else f"{plain[:MOST_CHARACTERS]} […]"
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, plain.rstrip("\n"), fence, ""]
