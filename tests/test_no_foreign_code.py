"""No model or data set from the hub or a folder may execute its own code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.conftest import REPOSITORY

LOADERS = {"from_pretrained", "HFLM", "LLM"}
"""Functions that accept `trust_remote_code`. `datasets.load_dataset` runs no code of a data set since its version 4."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    for folder in ("data", "models", "tasks", "flows"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    if name in LOADERS:
                        yield f"{path}:{node.lineno}", node


def test_every_loader_is_told_not_to_run_the_code_that_it_finds() -> None:
    found = list(calls())
    assert len(found) >= 8
    for place, call in found:
        said = [word.value.value for word in call.keywords if word.arg == "trust_remote_code" and isinstance(word.value, ast.Constant)]
        assert said == [False], place
