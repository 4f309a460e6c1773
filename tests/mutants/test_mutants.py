"""Planting mistakes: which ones, what the tests say to them, and the table."""

from __future__ import annotations

import json
from pathlib import Path

from tests.mutants.plant import mutants_of
from tests.mutants.report import write_report
from tests.mutants.run import Limit, run_tests

SOURCE = '''"""A module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Empty:
    """Nothing."""


def largest(values: list[int | None], least: int = 0) -> int:
    """Return the largest value above `least`."""
    found = least
    for value, _ in zip(values, values, strict=True):
        if value is not None and value > found:
            found = value
    return found
'''


def test_each_mutant_differs_in_code_and_annotations_and_guards_stay() -> None:
    mutants = mutants_of(SOURCE)
    changes = {(mutant.before, mutant.after) for mutant in mutants}
    assert ("if value is not None and value > found:", "if value is not None and value >= found:") in changes
    assert ("if value is not None and value > found:", "if value is not None or value > found:") in changes
    assert not any(word in mutant.source for mutant in mutants for word in ("int & None", "strict=False", "frozen=False"))
    assert len({mutant.source for mutant in mutants}) == len(mutants) >= 6


def test_a_mutant_is_killed_by_a_test_that_fails_or_hangs_and_survives_one_that_passes(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import time\nfrom pathlib import Path\ndef test_it():\n    said = Path('said').read_text()\n    assert said != 'wrong'\n"
        "    while said == 'endless': pass\n    time.sleep(600 * (said == 'asleep'))\n"
    )
    found = {}
    for said, limit in (("right", Limit()), ("wrong", Limit()), ("endless", Limit(computing=1)), ("asleep", Limit(passing=2))):
        (tmp_path / "said").write_text(said)
        found[said] = run_tests(tmp_path, ["test_it.py"], limit).outcome
    assert found == {"right": "survived", "wrong": "killed", "endless": "timeout", "asleep": "timeout"}


def test_the_table_counts_and_names_survivors(tmp_path: Path) -> None:
    trials = [
        {"name": "a", "line": 3, "before": "x > 1", "after": "x >= 1", "outcome": "killed"},
        {"name": "b", "line": 4, "before": "x + 1", "after": "x - 1", "outcome": "timeout"},
        {"name": "c", "line": 9, "before": "return 1", "after": "return 2", "outcome": "survived"},
    ]
    (tmp_path / "data.store.store.py.json").write_text(json.dumps({"mutants": 7, "trials": trials}))
    page = tmp_path / "MUTANTS.md"
    write_report(tmp_path, page)
    assert "| `data/store/store.py` | 7 | 3 | 2 | 0 | 1 | 67% |" in page.read_text()
    assert "- `data/store/store.py:9` `return 1` became `return 2`" in page.read_text()
    (tmp_path / "data.store.store.py.json").unlink()
    one = {"name": "d", "line": 38, "before": "x[:, 0]", "after": "x[:, -1]", "outcome": "survived"}
    (tmp_path / "models.rl.advantages.py.json").write_text(json.dumps({"mutants": 2, "trials": [one, trials[0]]}))
    for _ in range(2):  # a module that is not tried here keeps its lines
        write_report(tmp_path, page)
        text = page.read_text()
        assert "| `data/store/store.py` | 7 | 3 | 2 | 0 | 1 | 67% |\n| `models/rl/advantages.py` | 2 | 2 | 1 | 1 | 0 | 100% |" in text
        assert "| all | 9 | 5 | 3 | 1 | 1 | 75% |" in text
        survivors, excused = text.partition("## Survivors")[2].split("## Equivalent")
        assert survivors.strip() == "- `data/store/store.py:9` `return 1` became `return 2`"
        assert excused.strip() == "- `models/rl/advantages.py:38` `x[:, 0]` became `x[:, -1]`: the table has one column"
