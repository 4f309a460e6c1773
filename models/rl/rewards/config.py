"""Configs of the rewards that GRPO adds up. Importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mathquarry.data.config import HOW, Config, Positive

Argument = bool | int | float | str


class RewardTerm(Config):
    """Settings of all rewards. A completion's reward is the sum of weight x value over the list."""

    name: str | None = Field(
        None,
        pattern=r"^\w[\w.-]*$",
        description="Name in metrics (`rewards/NAME`) and in the table of rollouts (none: the function's name, or the kind).",
    )
    weight: float = Field(1.0, ge=-1e6, le=1e6, description="Factor of its values. 0: it is recorded, but not part of the reward.")


class ModelReward(RewardTerm):
    """The reward model: the score of each step if `supervision` is `process`, else the score of the last token."""

    kind: Literal["model"] = "model"

    @property
    def called(self) -> str:
        """Name in metrics."""
        return self.name or "model"


class RuleReward(RewardTerm):
    """The answer checker: 1 for a completion that ended and has the correct answer, else 0."""

    kind: Literal["rule"] = "rule"

    @property
    def called(self) -> str:
        """Name in metrics."""
        return self.name or "rule"


class FunctionReward(RewardTerm):
    """Your own Python function. It runs in the process of the stage, with your permissions."""

    kind: Literal["function"] = "function"
    function: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="`package.module:function`, on Python's path or in the folder where the run was started.",
    )
    arguments: dict[str, Argument] = Field({}, description="Additional keyword arguments of every call.")
    timeout_seconds: float | None = Field(
        None,
        gt=0,
        description="Time limit of one call. With a limit, the function runs in a thread, where Python's signals do not work.",
        json_schema_extra=HOW,
    )

    @property
    def called(self) -> str:
        """Name in metrics."""
        return self.name or self.function.partition(":")[2]


class HTTPReward(RewardTerm):
    """A reward computed by a server: completions are sent as JSON, rewards are returned."""

    kind: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://[^\s/@]+(/\S*)?$", description="Address to which completions are sent by POST.")
    version: str = Field("", description="Version of the server. Change it when the server changes: it is part of the artifact's key.")
    batch_size: Positive = Field(64, description="Completions per request.", json_schema_extra=HOW)
    concurrency: Positive = Field(4, description="Parallel requests.", json_schema_extra=HOW)
    timeout_seconds: float = Field(60.0, gt=0, description="Time limit of one request.", json_schema_extra=HOW)
    attempts: Positive = Field(5, description="Attempts per request, with increasing waits in between.", json_schema_extra=HOW)
    token: str | None = Field(
        None,
        pattern=r"^MATHQUARRY_\w+$",
        description="Environment variable with the server's bearer token. Its name must begin with MATHQUARRY_.",
        json_schema_extra=HOW,
    )

    @property
    def called(self) -> str:
        """Name in metrics."""
        return self.name or "http"


AnyReward = Annotated[ModelReward | RuleReward | FunctionReward | HTTPReward, Field(discriminator="kind")]
