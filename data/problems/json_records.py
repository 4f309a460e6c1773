"""Reads JSON lines and JSON documents as records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.record import Record, fault_of, whole_number
from mathquarry.data.problems.unpacked import LONGEST_LINE


def json_lines(lines: Iterable[str], origin: str, path: Path) -> Iterator[Record]:
    """Yield a record per line, without blank lines. Raises `MathQuarryError` for a line that is not a JSON object, or too long."""
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            detail = f"{path}, line {number} has more than {LONGEST_LINE:,} characters"
            raise MathQuarryError(f"{detail}. Problem files have one JSON object per line.")
        if line.strip():
            yield _parse(line, origin, number, path)


def json_document(text: str, origin: str, path: Path) -> Iterator[Record]:
    """Yield the objects of a `.json` file: a list of objects, or consecutive objects. A record's number is its position."""
    decoder = json.JSONDecoder(parse_int=whole_number)
    start = len(text) - len(text.lstrip())
    number = 0
    while start < len(text):
        line = text.count("\n", 0, start) + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise MathQuarryError(f"{path}, line {error.lineno} is not JSON: {error.msg}.") from None
        except RecursionError:
            raise MathQuarryError(f"{path}, from line {line} on, is nested too deeply to be read.") from None
        for fields in value if isinstance(value, list) else [value]:
            number += 1
            place = f"{path}, record {number}" if isinstance(value, list) else f"{path}, line {line}"
            if not isinstance(fields, dict):
                raise MathQuarryError(f"{place} is not a JSON object.")
            yield Record(fields, origin, number, place, fault_of(fields))
        start = end + len(text[end:]) - len(text[end:].lstrip())


def _parse(line: str, origin: str, number: int, path: Path) -> Record:
    place = f"{path}, line {number}"
    try:
        fields = json.loads(line, parse_int=whole_number)
    except RecursionError:
        return Record({}, origin, number, place, "it is nested too deeply")
    except json.JSONDecodeError as error:
        raise MathQuarryError(f"{place} is not JSON: {error}. Problem files have one JSON object per line.") from None
    if not isinstance(fields, dict):
        raise MathQuarryError(f"{place} is not a JSON object. Problem files have one JSON object per line.")
    return Record(fields, origin, number, place, fault_of(fields))
