"""A person's verdicts on URL paths, a small TOML file that belongs in version control.

    [[path]]
    host = "mathoverflow.net"
    prefix = "/questions"
    verdict = "accept"        # or "reject"
    annotator = "ab"          # optional, as are date, sample_size and note

A prefix covers the path itself and what lies below it ("/questions" covers "/questions/12", not "/questions-old");
the longest prefix decides.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field, ValidationError, field_validator

from data.config import Config
from data.errors import MathQuarryError

VERDICTS_SCHEMA = pa.schema([("host", pa.string()), ("stem", pa.string()), ("accepted", pa.bool_()), ("annotated", pa.bool_())])
"""A verdict on a path as SQL reads it: `stem` is the prefix without a slash at its end."""


class Verdict(Config):
    """One annotated path."""

    host: str = Field(description="Host name, lower case.")
    prefix: str = Field("/", description="Path prefix, beginning with a slash.")
    verdict: Literal["accept", "reject"] = Field(description="Whether its pages are mathematics.")
    annotator: str = Field("", description="Who looked.")
    date: str = Field("", description="When.")
    sample_size: int | None = Field(None, description="How many pages were looked at.")
    note: str = Field("", description="Anything else.")

    @field_validator("host")
    @classmethod
    def _lower_case(cls, host: str) -> str:
        return host.lower()

    @field_validator("prefix")
    @classmethod
    def _absolute(cls, prefix: str) -> str:
        if not prefix.startswith("/"):
            raise ValueError("a prefix begins with a slash")
        return prefix


class _File(Config):
    path: list[Verdict] = Field(description="The verdicts.")


class Annotations:
    """Verdicts by host."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        self._by_host: dict[str, list[Verdict]] = {}
        for verdict in sorted(verdicts, key=lambda verdict: -len(verdict.prefix.rstrip("/"))):
            self._by_host.setdefault(verdict.host, []).append(verdict)

    @classmethod
    def read(cls, path: Path) -> Annotations:
        """Read a TOML file. Raises `MathQuarryError` naming the file and the field that is wrong."""
        try:
            return cls(parse_verdicts(path.read_text(encoding="utf-8"), str(path)))
        except FileNotFoundError:
            raise MathQuarryError(f"annotations = {path} does not exist; write it or unset `annotations` of the mine section.") from None
        except UnicodeDecodeError as error:
            raise MathQuarryError(f"{path} is not TOML: {error}.") from None

    def verdicts(self) -> list[Verdict]:
        """All of them, by host."""
        return [verdict for _, verdicts in sorted(self._by_host.items()) for verdict in verdicts]

    def accepts(self, host: str, path: str) -> bool | None:
        """Whether a page's path is accepted; None when nobody judged it."""
        for verdict in self._by_host.get(host, ()):
            if covers(verdict.prefix, path):
                return verdict.verdict == "accept"
        return None

    def table(self) -> pa.Table:
        """The verdicts as rows, see `VERDICTS_SCHEMA`."""
        verdicts = [verdict for verdicts in self._by_host.values() for verdict in verdicts]
        rows = [(verdict.host, verdict.prefix, verdict.verdict == "accept") for verdict in verdicts]
        return verdict_rows(rows, annotated=True)

    def accepted(self) -> dict[str, list[str]]:
        """Accepted prefixes by host."""
        found = {host: sorted(v.prefix for v in verdicts if v.verdict == "accept") for host, verdicts in self._by_host.items()}
        return {host: prefixes for host, prefixes in sorted(found.items()) if prefixes}


def verdict_rows(rows: Iterable[tuple[str, str, bool]], *, annotated: bool) -> pa.Table:
    """Rows of (host, prefix, accepted) for `VERDICTS_SCHEMA`; `annotated` says that a person judged."""
    columns = [{"host": host, "stem": prefix.rstrip("/"), "accepted": accepted, "annotated": annotated} for host, prefix, accepted in rows]
    return pa.Table.from_pylist(columns, schema=VERDICTS_SCHEMA)


def parse_verdicts(text: str, where: str) -> list[Verdict]:
    """Verdicts of a TOML text. Raises `MathQuarryError` naming `where` it is from and the field that is wrong."""
    try:
        return _File(**tomllib.loads(text)).path
    except tomllib.TOMLDecodeError as error:
        raise MathQuarryError(f"{where} is not TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise MathQuarryError(f"{where}, {field}: {first['msg']}. A verdict is a [[path]] table with host, prefix and verdict.") from None


def covers(prefix: str, path: str) -> bool:
    """Whether a path is the prefix or lies below it, by whole segments."""
    stem = prefix.rstrip("/")
    return path == stem or path.startswith(stem + "/")
