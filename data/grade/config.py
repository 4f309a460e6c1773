"""Config of the answer checker."""

from __future__ import annotations

from pydantic import Field

from mathquarry.data.config import HOW, Config, Positive


class GradeConfig(Config):
    """The answer checker. Integrals, sums and limits go to math-verify, in a process that is killed when it takes too long."""

    timeout_seconds: float = Field(5.0, gt=0, description="Limit for one answer, in seconds of CPU time (our choice).")
    workers: Positive = Field(4, description="Checker processes per grading process, started on demand.", json_schema_extra=HOW)
