"""`RESULTS.md`: each benchmark rewrites its own section, between two comments that name it."""

from __future__ import annotations

import re
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


def write_section(name: str, lines: list[str], page: Path = RESULTS) -> None:
    """Replace the text between `<!-- NAME -->` and `<!-- /NAME -->`."""
    text = page.read_text(encoding="utf-8")
    section = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not section.search(text):
        raise SystemExit(f"{page} has no section {name}.")
    body = "\n".join(lines) + "\n"
    page.write_text(section.sub(lambda match: match[1] + body + match[2], text), encoding="utf-8")
