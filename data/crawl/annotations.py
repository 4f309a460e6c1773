"""A person's verdicts on URL paths, in a small TOML file to keep in version control.

    [[path]]
    host = "mathoverflow.net"
    prefix = "/questions"
    verdict = "accept"        # or "reject"; "undecided" counts as no verdict
    annotator = "ab"          # optional, as are date (2026-11-21), sample_size and note

A prefix covers the path itself and everything below it ("/questions" covers "/questions/12", not "/questions-old"). A
`*` matches any part of one folder's name ("/courses/*/maths"). If several prefixes match, the one with the most letters
besides `*` decides. `mathquarry domains --toml FILE` writes a file to fill in (`annotate.py`).
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, ValidationError, field_validator

from mathquarry.data.config import Config
from mathquarry.data.errors import MathQuarryError

_HEADER = re.compile(r"\s*\[\[\s*(?:path|\"path\"|'path')\s*\]\]")


VERDICTS_SCHEMA = pa.schema(
    [("host", pa.string()), ("stem", pa.string()), ("pattern", pa.string()), ("accepted", pa.bool_()), ("annotated", pa.bool_())]
)
"""A verdict on a path for SQL: `stem` is the prefix without a trailing slash, `pattern` a regular expression if it has a `*`."""


class Verdict(Config):
    """One annotated path."""

    host: str = Field(min_length=1, description="Host name; case does not matter.")
    prefix: str = Field("/", description="Path prefix, starting with a slash; `*` matches any part of a folder's name.")
    verdict: Literal["accept", "reject", "undecided"] = Field(description="Whether its pages are mathematics.")
    annotator: str = Field("", description="Who looked.")
    date: datetime.date | None = Field(None, description="Date of the verdict, like 2026-11-21.")
    sample_size: int | None = Field(None, ge=0, description="Number of pages reviewed.")
    note: str = Field("", description="Anything else.")

    @field_validator("host")
    @classmethod
    def _host(cls, host: str) -> str:
        if "/" in host:
            raise ValueError("a host is a name without scheme and path, like mathoverflow.net")
        return host.lower()

    @field_validator("prefix")
    @classmethod
    def _absolute(cls, prefix: str) -> str:
        if not prefix.startswith("/"):
            raise ValueError("a prefix starts with a slash")
        return prefix

    @property
    def stem(self) -> str:
        """The prefix without a trailing slash."""
        return self.prefix.rstrip("/")

    @property
    def pattern(self) -> str | None:
        """A regular expression for the paths that a prefix with `*` covers."""
        return _pattern(self.stem)

    @property
    def letters(self) -> int:
        """Number of letters in the stem besides `*`. If several verdicts match a path, the one with the most decides."""
        return len(self.stem.replace("*", ""))

    def covers(self, path: str) -> bool:
        """Whether the path is the prefix or lies below it, by whole segments."""
        return bool(re.fullmatch(self.pattern, path)) if self.pattern else path == self.stem or path.startswith(self.stem + "/")


def _pattern(stem: str) -> str | None:
    return "[^/]*".join(map(re.escape, stem.split("*"))) + "(/.*)?" if "*" in stem else None


class _File(Config):
    path: list[Verdict] = Field([], description="The verdicts.")


class Annotations:
    """Verdicts by host."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        self.verdicts = verdicts

    @classmethod
    def read(cls, path: Path) -> Annotations:
        """Read a TOML file. Raises `MathQuarryError` naming the file, the line and the invalid field."""
        try:
            return cls(parse_verdicts(path.read_text(encoding="utf-8"), str(path)))
        except FileNotFoundError:
            raise MathQuarryError(f"annotations = {path} does not exist; write it or unset `annotations` of the mine section.") from None
        except UnicodeDecodeError as error:
            raise MathQuarryError(f"{path} is not TOML: {error}.") from None

    def accepts(self, host: str, path: str) -> bool | None:
        """Whether a page's path is accepted; None if it has no verdict."""
        matching = [
            verdict for verdict in self.verdicts if verdict.host == host and verdict.verdict != "undecided" and verdict.covers(path)
        ]
        return max(matching, key=lambda verdict: (verdict.letters, verdict.stem)).verdict == "accept" if matching else None

    def table(self) -> pa.Table:
        """The verdicts as rows, see `VERDICTS_SCHEMA`; undecided ones are left out."""
        decided = [verdict for verdict in self.verdicts if verdict.verdict != "undecided"]
        return verdict_rows(((verdict.host, verdict.prefix, verdict.verdict == "accept") for verdict in decided), annotated=True)

    def paths(self, verdict: Literal["accept", "reject"]) -> dict[str, list[str]]:
        """Prefixes with this verdict, by host."""
        found: dict[str, list[str]] = {}
        for one in sorted(self.verdicts, key=lambda one: (one.host, one.prefix)):
            if one.verdict == verdict:
                found.setdefault(one.host, []).append(one.prefix)
        return found


def verdict_rows(rows: Iterable[tuple[str, str, bool]], *, annotated: bool) -> pa.Table:
    """Rows of (host, prefix, accepted) for `VERDICTS_SCHEMA`; `annotated` means that a person gave the verdicts."""
    found = [
        {"host": host, "stem": stem, "pattern": _pattern(stem), "accepted": accepted, "annotated": annotated}
        for host, prefix, accepted in rows
        for stem in [prefix.rstrip("/")]
    ]
    return pa.Table.from_pylist(found, schema=VERDICTS_SCHEMA)


def parse_verdicts(text: str, where: str) -> list[Verdict]:
    """Verdicts of a TOML text. Raises `MathQuarryError` with `where` the text is from, the line and the invalid field."""
    try:
        verdicts = _File(**tomllib.loads(text)).path
    except tomllib.TOMLDecodeError as error:
        raise MathQuarryError(f"{where} is not TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        got = f" (got {first['input']!r})" if first["type"] != "missing" else ""
        wrong = f"{where}{_line(text, first['loc'])}, {field}: {first['msg']}{got}"
        raise MathQuarryError(f"{wrong}. A verdict is a [[path]] table with host, prefix and verdict.") from None
    _refuse_doubles(where, text, verdicts)
    return verdicts


def _line(text: str, place: tuple[Any, ...]) -> str:
    """ ", line N" of a field of the `place[1]`-th [[path]] table, or of the table; empty if the file uses another table syntax."""
    lines = text.splitlines()
    headers = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)]
    if len(place) < 2 or not isinstance(place[1], int) or place[1] >= len(headers):
        return ""
    first = headers[place[1]]
    last = next((number for number in headers if number > first), len(lines) + 1)
    names = (number for number in range(first, last) if len(place) > 2 and re.match(rf"\s*[\"']?{place[2]}[\"']?\s*=", lines[number - 1]))
    return f", line {next(names, first)}"


def _refuse_doubles(source: str, text: str, verdicts: list[Verdict]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for number, verdict in enumerate(verdicts):
        before = seen.setdefault((verdict.host, verdict.stem), number)
        if before != number and verdicts[before].verdict != verdict.verdict:
            where = _line(text, ("path", number)).removeprefix(", ") or f"path {number}"
            first = _line(text, ("path", before)).removeprefix(", ") or f"path {before}"
            other = verdicts[before].verdict
            raise MathQuarryError(
                f"{source}, {where}: {verdict.host}{verdict.prefix} is {verdict.verdict} here and {other} in {first}; keep one."
            )
