"""Reading problem sets: JSON lines or JSON, plain or gzipped, or a dataset on the Hugging Face hub."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from data.errors import MathQuarryError

HUB = "hf://"
DIGITS = 4300
"""Digits of the longest whole number that is read, which is Python's own limit."""
DEPTH = 100
"""Lists and objects within each other, of a record that is used."""


@dataclass(frozen=True)
class Record:
    """One record of a problem set, knowing where it stands."""

    fields: dict[str, Any]
    origin: str
    """Name of the set, without folder and extension: `gsm8k-train`."""
    number: int
    """Its line, or its row + 1 on the hub."""
    place: str
    """File and line, for messages."""
    fault: str = ""
    """Why the record cannot be used although it is JSON: it is nested too deep, holds half a surrogate pair, or a number without end."""

    @property
    def id(self) -> str:
        """Set and line: `gsm8k-train-17`."""
        return f"{self.origin}-{self.number}"

    def text(self, field: str) -> str:
        """A field that must be a string that is not blank. Raises `MathQuarryError` naming file, line and field otherwise."""
        value = self.fields.get(field)
        if not isinstance(value, str) or not value.strip():
            found = f"it is {value!r}" if field in self.fields else f"the record has {', '.join(sorted(self.fields)) or 'nothing'}"
            raise MathQuarryError(f"{self.place}: no text in field `{field}`: {found}.")
        return value

    def value(self, field: str) -> str:
        """A field that must be a number or a string that is not blank, as text. Raises `MathQuarryError` as `text` does."""
        found = self.fields.get(field)
        if isinstance(found, int) and not isinstance(found, bool):
            return str(found)
        if isinstance(found, float):
            return str(int(found)) if found.is_integer() else str(found)
        return self.text(field).strip()

    def with_fields(self, **fields: Any) -> Record:
        """The record with other fields added."""
        return replace(self, fields={**self.fields, **fields})


def read_records(path: str) -> list[Record]:
    """All records of a file or of `hf://owner/name:config:split` (the config may be empty), blank lines left out.

    `hf://owner/name@revision:config:split` is a data set at that commit, tag or branch.

    Raises `MathQuarryError` naming the file, and the line where one is at fault, when it is missing, cut short, not JSON or empty.
    """
    records = list(_hub_records(path) if path.startswith(HUB) else _file_records(Path(path)))
    if not records:
        raise MathQuarryError(f"{path} holds no problems.")
    return records


def set_name(path: str) -> str:
    """Name of a problem set: `gsm8k-train` for `/a/gsm8k-train.jsonl.gz`, `gsm8k-main-train` for `hf://openai/gsm8k:main:train`."""
    if path.startswith(HUB):
        name, config, split = _hub_parts(path)
        name = name.partition("@")[0]
        return "-".join(part for part in (name.rstrip("/").rsplit("/", 1)[-1], config, split) if part)
    return Path(path).name.split(".")[0] or Path(path).name


def _file_records(path: Path) -> Iterator[Record]:
    origin = set_name(str(path))
    number = 0
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as file:
            if set(path.suffixes) & {".json"}:
                yield from _document_records(file.read(), origin, path)
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parse(line, origin, number, path)
    except FileNotFoundError:
        raise MathQuarryError(f"{path} does not exist.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise MathQuarryError(f"{path} is damaged after line {number}: {error}. Fetch it again.") from None
    except OSError as error:
        raise MathQuarryError(f"cannot read {path}: {error.strerror or error}.") from None


def _document_records(text: str, origin: str, path: Path) -> Iterator[Record]:
    """Objects of a `.json` file: a list of them, or one after the other. A record's number is its place among them."""
    decoder = json.JSONDecoder(parse_int=_whole_number)
    start = len(text) - len(text.lstrip())
    number = 0
    while start < len(text):
        line = text.count("\n", 0, start) + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise MathQuarryError(f"{path}, line {error.lineno} is not JSON: {error.msg}.") from None
        except RecursionError:
            raise MathQuarryError(f"{path}, from line {line} on, is nested too deep to be read.") from None
        for fields in value if isinstance(value, list) else [value]:
            number += 1
            place = f"{path}, record {number}" if isinstance(value, list) else f"{path}, line {line}"
            if not isinstance(fields, dict):
                raise MathQuarryError(f"{place} is not a JSON object.")
            yield Record(fields, origin, number, place, _fault(fields))
        start = end + len(text[end:]) - len(text[end:].lstrip())


def _parse(line: str, origin: str, number: int, path: Path) -> Record:
    place = f"{path}, line {number}"
    try:
        fields = json.loads(line, parse_int=_whole_number)
    except RecursionError:
        return Record({}, origin, number, place, "it is nested too deep")
    except json.JSONDecodeError as error:
        raise MathQuarryError(f"{place} is not JSON: {error}. Problem files hold one JSON object a line.") from None
    if not isinstance(fields, dict):
        raise MathQuarryError(f"{place} is not a JSON object. Problem files hold one JSON object a line.")
    return Record(fields, origin, number, place, _fault(fields))


class _EndlessNumber(str):
    """The digits of a whole number that Python does not read."""


def _whole_number(digits: str) -> int | _EndlessNumber:
    return int(digits) if len(digits) <= DIGITS else _EndlessNumber(digits)


def _fault(value: Any, depth: int = 0) -> str:
    """Why a value out of a JSON file cannot be used, or nothing."""
    if isinstance(value, _EndlessNumber):
        return f"a number has {len(value):,} digits; at most {DIGITS:,} are read"
    if isinstance(value, str):
        # Only surrogates cannot be encoded.
        return "" if value.isascii() or value.encode("utf-8", "replace").decode() == value else "it holds half a surrogate pair"
    if not isinstance(value, (list, dict)):
        return ""
    if depth == DEPTH:
        return "it is nested too deep"
    parts = chain(value, value.values()) if isinstance(value, dict) else value
    return next(filter(None, (_fault(part, depth + 1) for part in parts)), "")


def _hub_parts(path: str) -> tuple[str, str, str]:
    parts = path.removeprefix(HUB).split(":")
    if len(parts) != 3 or not parts[0] or not parts[2]:
        raise MathQuarryError(f"{path} is not of the form hf://owner/name:config:split (the config may be empty).")
    return parts[0], parts[1], parts[2]


def _hub_records(path: str) -> Iterator[Record]:
    name, config, split = _hub_parts(path)
    name, _, revision = name.partition("@")
    # Takes a second to import, and local files do without it.
    import datasets

    try:
        rows = datasets.load_dataset(name, config or None, split=split, revision=revision or None)
    except Exception as error:  # the library raises its own, the hub client's and the network's errors alike
        raise MathQuarryError(f"cannot load {path}: {type(error).__name__}: {error}") from error
    for row, fields in enumerate(rows):
        yield Record(dict(fields), set_name(path), row + 1, f"{path}, row {row}")
