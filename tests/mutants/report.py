"""The table of mutants, `tests/MUTANTS.md`."""

from __future__ import annotations

import json
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
    """Write the table from the results of all modules."""
    reasons = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text()).get("equivalent", [])
    rows, survivors, excused = [], [], []
    totals = [0, 0, 0, 0, 0]
    for file in sorted(results.glob("*.json")):
        found = json.loads(file.read_text())
        module = file.stem.replace(".", "/").removesuffix("/py") + ".py"
        trials = found["trials"]
        alive = [trial for trial in trials if trial["outcome"] == "survived"]
        why = {trial["name"]: reason for trial in alive if (reason := _reason(module, trial, reasons))}
        counts = [found["mutants"], len(trials), len(trials) - len(alive), len(why), len(alive) - len(why)]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        rows.append(_row(f"`{module}`", counts))
        survivors += [f"- `{module}:{trial['line']}` {_change(trial)}" for trial in alive if trial["name"] not in why]
        excused += [f"- `{module}:{trial['line']}` {_change(trial)}: {why[trial['name']]}" for trial in alive if trial["name"] in why]
    rows.append(_row("all", totals))
    text = HEAD + "\n".join(rows) + "\n\n## Survivors\n\n" + "\n".join(survivors or ["None."])
    page.write_text(text + "\n\n## Equivalent\n\n" + "\n".join(excused or ["None."]) + "\n")


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
