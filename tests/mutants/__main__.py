"""Mutation testing: plant single mistakes in a module, one at a time, and see whether its tests notice.

    python -m tests.mutants [--sample N] [MODULE ...]

The mistakes are those of Cosmic Ray's operators. For each module, `targets.toml` names the tests that are run. Results are kept in
`build/mutants`, so an interrupted run continues; `tests/MUTANTS.md` is written from them. A module that changed starts again, and survivors
are tried again when the module's tests change. Delete `build/mutants` to try everything again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tomllib
from pathlib import Path

from tests.mutants.plant import Mutant, mutants_of
from tests.mutants.report import write_report
from tests.mutants.run import Limit, Trial, clone_of, copy_repository, run_tests

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "mutants"
SEED = 0


def main() -> int:
    """Try the mutants that were not tried before, and write the report. Exit status 1 if a module's own tests fail without a mutant."""
    targets: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "targets.toml").read_text())
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="paths such as data/store/store.py; all of targets.toml if none")
    parser.add_argument("--sample", type=int, default=40, help="mutants of a module that are tried, drawn with a fixed seed; 0: all")
    asked = parser.parse_args()
    if unknown := set(asked.modules) - set(targets):
        parser.error(f"{', '.join(sorted(unknown))}: not in tests/mutants/targets.toml. Add it there with its tests.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = False
    with clone_of(ROOT) as clone:
        for module in asked.modules or targets:
            failed |= not try_module(clone, module, targets[module], asked.sample)
            write_report(RESULTS, ROOT / "tests" / "MUTANTS.md")
    return int(failed)


def try_module(clone: Path, module: str, tests: list[str], sample: int) -> bool:
    """Try the mutants of one module in a copy of the repository, made now. Returns False if its tests fail as it is."""
    source = (ROOT / module).read_text()
    kept = RESULTS / f"{module.replace('/', '.')}.json"
    earlier = json.loads(kept.read_text()) if kept.exists() else {}
    digest = _digest(tests)
    tried = {trial["name"]: trial for trial in earlier.get("trials", [])} if earlier.get("source") == source else {}
    if earlier.get("tests") != digest:
        tried = {name: trial for name, trial in tried.items() if trial["outcome"] != "survived"}
    mutants = mutants_of(source)
    chosen = mutants if sample == 0 else _drawn(mutants, sample)
    left = [mutant for mutant in chosen if mutant.name not in tried]
    if left:
        copy_repository(ROOT, clone)
        unchanged = run_tests(clone, tests, Limit())
        if unchanged.outcome != "survived":
            print(f"{module}: its tests fail without a mutant; see {unchanged.log}", file=sys.stderr)
            return False
    for mutant in left:
        (clone / module).write_text(mutant.source)
        trial = run_tests(clone, tests, Limit.after(unchanged))
        tried[mutant.name] = {
            "name": mutant.name,
            "line": mutant.line,
            "before": mutant.before,
            "after": mutant.after,
            "outcome": trial.outcome,
        }
        kept.write_text(json.dumps({"source": source, "tests": digest, "mutants": len(mutants), "trials": list(tried.values())}))
        _say(module, mutant, trial)
    return True


def _digest(tests: list[str]) -> str:
    """A digest of the test files."""
    files = sorted(file for place in tests for file in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*.py")))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _drawn(mutants: list[Mutant], sample: int) -> list[Mutant]:
    """A sample in which as many lines as possible have a mutant."""
    order = random.Random(SEED).sample(mutants, len(mutants))
    seen: dict[int, int] = {}
    rank = []
    for mutant in order:
        seen[mutant.line] = seen.get(mutant.line, 0) + 1
        rank.append(seen[mutant.line])
    return [mutant for _, mutant in sorted(zip(rank, order, strict=True), key=lambda pair: pair[0])][:sample]


def _say(module: str, mutant: Mutant, trial: Trial) -> None:
    print(
        f"{trial.outcome:9} {trial.seconds:6.1f} s  {module}:{mutant.line}  {mutant.before.strip()}  ->  {mutant.after.strip()}", flush=True
    )


if __name__ == "__main__":
    raise SystemExit(main())
