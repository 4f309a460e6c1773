"""Other spellings of a gold answer that mean the same: a checker must accept them.

Each rule is a function of a gold answer and gives one spelling, or None where it does not apply. `spellings` names each by its rule.
"""

from __future__ import annotations

from tests.data.grade import harmless_frames, harmless_kinds  # noqa: F401 (they register the rules)
from tests.data.grade.rules import RULES


def spellings(gold: str) -> dict[str, str]:
    """Every other spelling of `gold` by the name of its rule; no two are the same."""
    found: dict[str, str] = {}
    for name, rule in RULES.items():
        spelling = rule(gold)
        if spelling is not None and spelling != gold and spelling not in found.values():
            found[name] = spelling
    return found
