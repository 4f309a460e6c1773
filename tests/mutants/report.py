"""The table of mutants, `tests/MUTANTS.md`."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

HEAD = """# Mutants

`make mutants` plants single mistakes in a module, one at a time, and runs the module's quick tests. A mutant is killed if a test fails or
does not end in time. If a module has many mutants, a sample with a fixed seed is tried, with as many lines as possible. A survivor is
equivalent if it changes no promised behaviour; `tests/mutants/equivalent.toml` gives the reason.

| module | mutants | tried | killed | equivalent | survivors | killed of the others |
|---|---:|---:|---:|---:|---:|---:|
"""


def write_report(results: Path, page: Path) -> None:
    """Write the table from the results of all modules. A module without results keeps what the page says about it."""
    reasons = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text()).get("equivalent", [])
    rows, survivors, excused = _earlier(page)
    for file in results.glob("*.json"):
        found = json.loads(file.read_text())
        module = file.stem.replace(".", "/").removesuffix("/py") + ".py"
        trials = found["trials"]
        alive = [trial for trial in trials if trial["outcome"] == "survived"]
        why = {trial["name"]: reason for trial in alive if (reason := _reason(module, trial, reasons))}
        rows[module] = [found["mutants"], len(trials), len(trials) - len(alive), len(why), len(alive) - len(why)]
        survivors[module] = [f"- `{module}:{trial['line']}` {_change(trial)}" for trial in alive if trial["name"] not in why]
        excused[module] = [
            f"- `{module}:{trial['line']}` {_change(trial)}: {why[trial['name']]}" for trial in alive if trial["name"] in why
        ]
    table = [_row(f"`{module}`", counts) for module, counts in sorted(rows.items())]
    table.append(_row("all", [sum(column) for column in zip(*rows.values(), strict=True)]))
    text = HEAD + "\n".join(table) + "\n\n## Survivors\n\n" + _lines(survivors)
    page.write_text(text + "\n\n## Equivalent\n\n" + _lines(excused) + "\n")


def _earlier(page: Path) -> tuple[dict[str, list[int]], dict[str, list[str]], dict[str, list[str]]]:
    """What a page says: counts, survivors and equivalent mutants, by module."""
    text = page.read_text() if page.exists() else ""
    rows = {row[1]: [int(count) for count in row[2].split("|")] for row in re.finditer(r"(?m)^\| `(\S+)` \|((?: \d+ \|){4} \d+) \|", text)}
    lists: list[dict[str, list[str]]] = []
    for part in text.partition("## Survivors")[2].split("## Equivalent"):
        lines: dict[str, list[str]] = {}
        for line in re.finditer(r"(?m)^- `([^`:]+):\d+` .+$", part):
            lines.setdefault(line[1], []).append(line[0])
        lists.append(lines)
    survivors, excused = lists if len(lists) == 2 else ({}, {})
    return rows, survivors, excused


def _lines(by_module: dict[str, list[str]]) -> str:
    return "\n".join(line for _, lines in sorted(by_module.items()) for line in lines) or "None."


def _row(name: str, counts: list[int]) -> str:
    _, tried, killed, equivalent, _ = counts
    share = f"{killed / (tried - equivalent):.0%}" if tried > equivalent else ""
    return f"| {name} | {' | '.join(map(str, counts))} | {share} |"


def _change(trial: dict[str, Any]) -> str:
    return f"`{trial['before']}` became `{trial['after']}`"


def _reason(module: str, trial: dict[str, Any], reasons: list[dict[str, str]]) -> str | None:
    """Why a survivor is equivalent, if that was found."""
    return next(
        (one["why"] for one in reasons if one["module"] == module and one["before"] in trial["before"] and one["after"] in trial["after"]),
        None,
    )
