"""The register of rules that give a gold answer a harmless spelling."""

from __future__ import annotations

from collections.abc import Callable

from tests.data.grade import pieces

Rule = Callable[[str], str | None]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule under its name."""
    RULES[function.__name__.replace("_", " ").strip()] = function
    return function


def template(name: str, text: str, *kinds: str, where: Callable[[str], bool] = lambda gold: True) -> None:
    """Register a rule that puts a gold answer of these kinds (none: all) into a frame, in which % stands for it."""
    RULES[name] = lambda gold: text.replace("%", gold) if (not kinds or pieces.kind(gold) in kinds) and where(gold) else None
