"""The base of every config, and the types that configs share. Each package has its own `config.py`.

Defaults are the paper's numbers (arXiv 2402.03300); "our choice" marks what the paper leaves open. Every config rejects unknown keys, so
a misspelled field in a recipe fails before any work starts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Language = Literal["en", "zh"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
HOW: dict[str, Any] = {"result": False}
"""`json_schema_extra` of a field that controls how work is done and cannot change its result, such as workers or memory."""


class Config(BaseModel):
    """Base of every config: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def identity(self) -> dict[str, Any]:
        """The part of the config that identifies an artifact: every field, except those declared with `HOW`."""
        found = {}
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra != HOW:
                value = getattr(self, name)
                found[name] = value.identity() if isinstance(value, Config) else self.model_dump(mode="json", include={name})[name]
        return found
