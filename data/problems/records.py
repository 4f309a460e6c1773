"""Reads problem sets: Parquet, Arrow, CSV, JSON lines or JSON, optionally compressed, or a data set on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.hub import hub_error, with_retries
from mathquarry.data.fetch.hub_rows import HUB, first_row
from mathquarry.data.problems.json_records import json_document, json_lines
from mathquarry.data.problems.record import Record, fault_of
from mathquarry.data.problems.tables import arrow_rows, csv_rows, parquet_rows
from mathquarry.data.problems.unpacked import NotText, Unpacked

_TABLES = {"parquet": parquet_rows, "arrow": arrow_rows}


def read_records(path: str, encoding: str | None = None) -> list[Record]:
    """Read all records of a file or of `hf://owner/name:config:split` (the config can be empty), without blank lines.

    `hf://owner/name@revision:config:split` selects a commit, tag or branch. The format of a file is detected from its bytes. Text is CSV if
    its name says so, a JSON document if it is named `.json`, and JSON lines otherwise. Text is UTF-8, or UTF-16 with a byte order mark;
    other text has the encoding `encoding`.

    Raises `MathQuarryError` with the file, and the line or record if possible, if the file is missing, truncated, empty, too large, or in
    another format.
    """
    records = list(_hub_records(path)) if path.startswith(HUB) else _file_records(Path(path), encoding)
    if not records:
        raise MathQuarryError(f"{path} has no problems.")
    return records


def first_record(place: str) -> Record | None:
    """Return the first record of a data set on the hub; `None` if the hub does not return it.

    Raises `MathQuarryError` if the place has another form, or if the set has no such config or split.
    """
    _hub_parts(place)
    fields = first_row(place)
    return None if fields is None else Record(fields, set_name(place), 1, f"{place}, row 0", fault_of(fields))


def set_name(path: str) -> str:
    """Return the name of a problem set: `gsm8k-train` for `/a/gsm8k-train.jsonl.gz`, `gsm8k-main-train` for `hf://openai/gsm8k:main:train`."""
    if path.startswith(HUB):
        name, config, split = _hub_parts(path)
        name = name.partition("@")[0]
        return "-".join(part for part in (name.rstrip("/").rsplit("/", 1)[-1], config, split) if part)
    return Path(path).name.split(".")[0] or Path(path).name


def _file_records(path: Path, encoding: str | None) -> list[Record]:
    origin = set_name(str(path))
    try:
        with Unpacked(path) as file:
            if rows := _TABLES.get(file.kind):
                return _numbered(rows(file.binary(), path), origin, path)
            found = None
            for coding in file.encodings(encoding):
                try:
                    found = _text_records(file, coding, origin)
                    break
                except UnicodeDecodeError:
                    continue
            if found is None:
                raise NotText(path, encoding)
            return found
    except FileNotFoundError:
        raise MathQuarryError(f"{path} does not exist.") from None
    except MemoryError:
        raise MathQuarryError(f"{path} does not fit in memory. Split it, and list the parts.") from None
    except OSError as error:
        raise MathQuarryError(f"cannot read {path}: {error.strerror or error}.") from None


def _text_records(file: Unpacked, coding: str, origin: str) -> list[Record]:
    path = file.path
    if separator := file.separator:
        return _numbered(csv_rows(file.binary(), coding, separator, path), origin, path)
    lines = file.text(coding)
    if ".json" in path.suffixes:
        return list(json_document("".join(lines), origin, path))
    return list(json_lines(lines, origin, path))


def _numbered(rows: Iterator[dict], origin: str, path: Path) -> list[Record]:
    return [Record(fields, origin, number, f"{path}, record {number}", fault_of(fields)) for number, fields in enumerate(rows, 1)]


def _hub_parts(path: str) -> tuple[str, str, str]:
    parts = path.removeprefix(HUB).split(":")
    if len(parts) != 3 or not parts[0] or not parts[2]:
        raise MathQuarryError(f"{path} is not of the form hf://owner/name:config:split (the config may be empty).")
    return parts[0], parts[1], parts[2]


def _hub_records(path: str) -> Iterator[Record]:
    name, config, split = _hub_parts(path)
    name, _, revision = name.partition("@")
    # Importing it takes a second, and local files do not need it.
    import datasets

    try:
        rows = with_retries(lambda: datasets.load_dataset(name, config or None, split=split, revision=revision or None))
    except Exception as error:  # the library raises errors of its own, of the hub client and of the network
        raise hub_error(f"cannot load {path}", error) from error
    for row, fields in enumerate(rows):
        yield Record(dict(fields), set_name(path), row + 1, f"{path}, row {row}")
