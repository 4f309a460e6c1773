"""Config of processes that train together."""

from __future__ import annotations

from pydantic import Field, model_validator

from mathquarry.data.config import Config, Positive


class RanksConfig(Config):
    """Processes that train together. Each has its own GPU (or its share of the cores), and weights are sharded over all of them."""

    processes: Positive = Field(1, description="Processes per machine. 1 uses only the stage's own process.")
    nodes: Positive = Field(1, description="Machines.")
    rendezvous: str | None = Field(None, description="`HOST:PORT` of the first machine, for rendezvous. Only with several machines.")

    @property
    def size(self) -> int:
        """Number of processes on all machines."""
        return self.nodes * self.processes

    @model_validator(mode="after")
    def _machines_can_meet(self) -> RanksConfig:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f"nodes is {self.nodes}, so rendezvous must be set to HOST:PORT of the first machine")
        return self
