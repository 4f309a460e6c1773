"""Functions that sampling processes execute in tests; `share_out` needs them importable."""

from __future__ import annotations

import os
import signal

import pyarrow as pa

from mathquarry.data.problems.problem import Problem
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.store.workspace import Bar
from mathquarry.models.evaluate import evaluate
from mathquarry.models.evaluate.config import EvaluateConfig
from mathquarry.models.evaluate.sample_and_grade import GradedSampler

answer = evaluate._answer


def answer_until_killed(
    config: EvaluateConfig, sampler_and_grader: GradedSampler, format: SolutionFormat, questions: list[Problem], bar: Bar
) -> pa.Table:
    """The real rows, until the second process reaches its second chunk and is killed as the kernel would."""
    if os.environ.get("RANK") == "1" and bar.done > 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(config, sampler_and_grader, format, questions, bar)
