"""Docstrings are written to be read in the source: plain text with Markdown's lists, tables and code. This makes them reStructuredText."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_ITEM = re.compile(r"\s*(\d+\.|-) ")
_CODE = re.compile(r"(`+)(.+?)\1")


def convert(lines: list[str]) -> list[str]:
    """Lists and tables get the empty lines that they need, tables stay as they are written, signs outside code are signs."""
    converted: list[str] = []
    in_table = in_list = False
    for line in lines:
        is_row = line.lstrip().startswith("|")
        if is_row and not in_table:
            converted += ["", "::", ""]
        if in_table and not is_row:
            converted.append("")
        in_table = is_row
        if is_row:
            converted.append("    " + line)
            continue
        is_item = _ITEM.match(line) is not None
        is_list = is_item or (in_list and line.startswith(" "))
        if is_list != in_list and line.strip() and converted and converted[-1].strip():
            converted.append("")
        in_list = is_list
        converted.append(line if line.startswith("    ") else _escape(line))
    return converted


def _escape(line: str) -> str:
    """Code in backticks as a literal, and no emphasis or substitution anywhere else."""
    parts, end = [], 0
    for code in _CODE.finditer(line):
        parts += [_plain(line[end : code.start()]), f"``{code[2].strip()}``"]
        end = code.end()
    return "".join([*parts, _plain(line[end:])])


def _plain(text: str) -> str:
    return re.sub(r"([*`|\\]|_\b)", r"\\\1", text)


def _on_docstring(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    lines[:] = convert(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the conversion."""
    app.connect("autodoc-process-docstring", _on_docstring)
    return {"parallel_read_safe": True}
