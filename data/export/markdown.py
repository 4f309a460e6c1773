"""Parts of cards. Names and paths come from recipes and manifests, so they are escaped and cannot add markup to a card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any


def plain(text: object) -> str:
    """Any value as a line of text without markup."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$@])", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    """A name or key in code type."""
    return f"`{' '.join(str(text).replace('`', chr(39)).replace('|', '/').split())}`"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table from cells that are already markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def lineage_table(lineage: Sequence[tuple[int, str, Mapping[str, Any]]]) -> str:
    """The result of `Ledger.lineage` as a table, with each artifact once, above its inputs."""
    rows = []
    for depth, role, row in lineage:
        if not row["repeated"]:
            sources = [f"{code(public_name(one['path']))} (SHA-256 {code(one['sha256'][:12])})" for one in row["sources"]]
            name = f"{'– ' * depth}{row['stage']}{f' ({role})' if role and role != row['stage'] else ''}"
            made_with = code(f"{row['code_version']} {row['code_revision']}")
            rows.append([name, code(row["key"]), f"{row['created']:%Y-%m-%d}", made_with, ", ".join(sources) or "–"])
    return table(["Artifact", "Key", "Made", "Code", "Files from outside"], rows)


def front_matter(fields: Mapping[str, Any]) -> str:
    """The YAML block at the top of a card, written as JSON, which is valid YAML and quotes values correctly."""
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items() if value not in (None, [], "")]
    return "\n".join(["---", *lines, "---"])


def public_name(path: str) -> str:
    """The name of a source in a card: an address unchanged, a local file without its folders."""
    return path if "://" in path or path.startswith("package:") else PurePath(path).name
