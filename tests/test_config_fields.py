"""Every field of every config changes the artifact's key, unless it says that it cannot, and is used somewhere.

What a field does is tested in the rooms (for training loops, `tests/models/test_config_effects.py`); here no field of any config is
forgotten: a new one is covered when it is declared.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

import mathquarry.flows.recipe  # noqa: F401 - declares the last of the configs
from mathquarry.data.config import HOW, Config
from mathquarry.data.mine.config import WorkersConfig
from mathquarry.tasks.stage import produce

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "models", "tasks", "flows")

NEEDED: dict[str, dict[str, Any]] = {
    "ProblemFiles": {"train": ["a"], "test": ["b"]},
    "SolutionFiles": {"path": "a", "answer": "b"},
    "CrawlFiles": {"warcs": ["a"]},
    "CommonCrawl": {"crawl": "CC-MAIN-2026-10"},
    "CommonCrawlRecords": {"crawl": "CC-MAIN-2026-10", "annotations": "a.toml"},
    "TrainConfig": {"learning_rate": 1e-3, "batch_tokens": 1024},
    "MixSource": {"name": "a", "weight": 1.0},
    "HeldOutText": {"name": "a"},
    "ModelShape": {"layers": 2, "hidden": 64, "heads": 4, "intermediate": 128, "vocabulary": 300},
    "RanksConfig": {"rendezvous": "host:1"},
    "StartConfig": {"policy": "a"},
    "RolloutConfig": {"engine": "vllm"},
    "GRPOConfig": {"evaluate_steps": 5},
    "FunctionReward": {"function": "a:b"},
    "HTTPReward": {"url": "http://a"},
    "TrainingPart": {"mix": [{"name": "a", "weight": 1.0}], "total_tokens": 10},
    "ArmConfig": {"parts": [{"mix": [{"name": "a", "weight": 1.0}], "total_tokens": 10}]},
    "Recipe": {"name": "a"},
}
"""Fields without a default, and fields that others need for a second value."""

UNREAD = {
    **dict.fromkeys(
        ((of, "kind") for of in ("GeneratedProblems", "ProblemFiles", "GeneratedCrawl", "CrawlFiles", "CommonCrawl", "CommonCrawlRecords")),
        "chooses the class of `source`; the class is what code looks at",
    ),
    **dict.fromkeys(((of, "kind") for of in ("ScratchModel", "PretrainedModel")), "chooses the class of `model`"),
    ("HTTPReward", "version"): "tells artifacts of different servers apart, by the config's identity",
    **dict.fromkeys(
        (("AblateConfig", name) for name in ("corpora", "code", "papers")), "read by the name of the experiment that is asked for"
    ),
    ("Recipe", "trackers"): "given to the sections that name none of their own, before any config is made",
    ("Recipe", "programs"): "copied as text into the sections that name no sandbox of their own, before any config is made",
}
"""Fields that no code reads by name, and why each may exist. There are no others."""


def subclasses(of: type[Config]) -> Iterator[type[Config]]:
    """Configs of stages and recipes, whatever else is imported: forms of the UI and annotation files make no artifact."""
    for one in of.__subclasses__():
        if one.__module__.endswith((".config", ".experiments", ".recipe")):
            yield one
            yield from subclasses(one)


CLASSES = sorted(set(subclasses(Config)), key=lambda one: one.__name__)
FIELDS = [(one, name) for one in CLASSES for name in one.model_fields]


def whole(of: type[Config]) -> Config:
    return of.model_validate(NEEDED.get(of.__name__, {}))


def others(value: Any, annotation: Any) -> Iterator[Any]:
    """Values other than `value`, some of which the field will accept."""
    for choice in (option for part in (annotation, *get_args(annotation)) for option in get_args(part)):
        if isinstance(choice, str | int | float):
            yield choice
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value - 1, value * 2, value / 2, value * 0.9, value + 0.5)
    elif isinstance(value, str):
        yield from (value + "x", "mmlu-stem", "cosine", ["q_proj"])
    elif isinstance(value, list):
        part = {"name": "a", "weight": 1.0}
        yield from (
            value[:-1],
            value * 2,
            [*value, *value[:1]],
            ["a"],
            ["tensorboard"],
            [3],
            [part],
            [{"name": "a"}],
            [{"path": "a"}],
            [{"mix": [part], "total_tokens": 10}],
        )
        yield [{"kind": "rule"}]
    elif isinstance(value, dict):
        yield from (
            {"cot": 0.5},
            {"ppo": 1e-3},
            {"a": {"question": "b"}},
            {"a": {"parts": [{"mix": [{"name": "a", "weight": 1.0}], "total_tokens": 10}]}},
        )
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            for other in others(getattr(value, name), field.annotation):
                yield {**value.model_dump(), name: other}
    elif value is None:
        yield from ("a", 1, 0.5, 8, "host:1", [1], ["sft"], "own", NEEDED["ModelShape"], "MATHQUARRY_A")


def changed(config: Config, name: str) -> Config:
    """`config` with another value of one field; of the same kind, if there is one."""
    before, values = getattr(config, name), {field: getattr(config, field) for field in type(config).model_fields}
    found = []
    for other in others(before, type(config).model_fields[name].annotation):
        try:
            found.append(type(config).model_validate({**values, name: other}))
        except ValidationError:
            continue
        if getattr(found[-1], name) == before:
            found.pop()
        elif isinstance(getattr(found[-1], name), type(before)):
            return found[-1]
    assert found, f"no other value of {type(config).__name__}.{name} is known to this test: extend `others`"
    return found[0]


def says_how(of: type[Config], name: str) -> bool:
    return of.model_fields[name].json_schema_extra == HOW


@pytest.mark.parametrize("of", CLASSES, ids=lambda of: of.__name__)
def test_a_field_makes_another_artifact_unless_it_says_how_work_is_done(of: type[Config]) -> None:
    config = whole(of)
    for name, field in of.model_fields.items():
        if len(get_args(field.annotation)) == 1 and isinstance(getattr(config, name), str):  # a `kind`, which has no other value
            assert config.identity()[name] == getattr(config, name)
            continue
        other = changed(config, name)
        assert (other.identity() == config.identity()) is says_how(of, name), name


def test_a_config_that_differs_in_how_alone_finds_the_artifact_and_any_other_makes_one(tmp_path: Path) -> None:
    made: list[str] = []

    def key(config: Config) -> str:
        return produce(str(tmp_path), "mine", 1, {"mine": config}, {}, lambda workspace, inputs: made.append("made") or {}).key

    config = whole(next(one for one in CLASSES if one.__name__ == "MineConfig"))
    assert key(config) == key(config.model_copy(update={"workers": WorkersConfig(count=7, engine="threads", memory_gib=9.0)}))
    assert made == ["made"]
    assert key(config) != key(config.model_copy(update={"max_rounds": 2}))
    assert made == ["made", "made"]


@cache
def attributes() -> dict[str, list[tuple[str, str, frozenset[str]]]]:
    """For each attribute that is read anywhere: (module, the expression before the dot, names in the module)."""
    found: dict[str, list[tuple[str, str, frozenset[str]]]] = {}
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                of = node.value
                holder = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
                found.setdefault(node.attr, []).append((str(path.relative_to(ROOT)), holder, frozenset(names)))
    return found


@cache
def holders(of: type[Config]) -> tuple[set[str], set[str]]:
    """Names of the fields whose value is a config of this class; names of the classes that hold several in a list or table."""
    fields, classes = set(), set()
    for one, name in FIELDS:
        waiting = [(one.model_fields[name].annotation, False)]
        while waiting:
            part, several = waiting.pop()
            if isinstance(part, type) and issubclass(part, Config) and (issubclass(of, part) or issubclass(part, of)):
                fields.add(name)
                classes |= {one.__name__} if several else set()
            waiting += [(inner, several or get_origin(part) in (list, dict)) for inner in get_args(part)]
    return fields, classes


def reads(of: type[Config], name: str) -> list[str]:
    """Modules that read `.name` of an expression that can be a config of this class.

    It can, where it is taken from a field that holds one; or where the class stands in the module by its name, or one that it inherits from
    or hands down to, or one that holds several of it.
    """
    fields, classes = holders(of)
    family = classes | {one.__name__ for one in CLASSES if issubclass(one, of) or issubclass(of, one)}
    return [module for module, holder, names in attributes().get(name, []) if holder in fields or names & family]


@pytest.mark.parametrize("of", CLASSES, ids=lambda of: of.__name__)
def test_every_field_is_read(of: type[Config]) -> None:
    unread = [name for name in of.model_fields if (of.__name__, name) not in UNREAD and not reads(of, name)]
    assert not unread, f"nothing reads {unread} of {of.__name__}. Use them, or take them out."


def test_what_is_listed_as_unread_is_a_field() -> None:
    assert UNREAD.keys() <= {(of.__name__, name) for of, name in FIELDS}
