"""The documentation points at things that exist: files, headings, commands, fields of recipes, names in code. Needs no network."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import tomllib
import typing
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel, ValidationError

from mathquarry.flows.__main__ import command_parser
from mathquarry.flows.recipe import Recipe

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "models", "tasks", "flows")
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [*PAGES, *(ROOT / room for room in ROOMS)]
MADE_BY_THE_READER = {"tests/models/rl/test_sapo.py"}
"""Names that the tutorial adds."""

FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"(?<!\\)\]\(([^)]*)\)")
URL = re.compile(r"https?://[^\s)>\]\"'`|]*")
PATH = re.compile(r"(?<![\w./<-])((?:data|models|tasks|flows|tests|docker|docs)/[\w./-]*(?:\.(?:py|toml|md|yaml|png)\b|/(?![\w<*])))")
FILE = re.compile(r"\.(?:py|json|jsonl|parquet|toml|bin|npz|gz|zst|bz2|svg|html|md|yaml|tmp|warc|duckdb)$")
NAMED_IN = re.compile(r"((?:`\w+`(?:, | and )?)+) (?:in|of) `((?:data|models|tasks|flows)/[\w/]+\.py)`")


def text_of(source: Path) -> str:
    """A page, or the docstrings and messages of a package's modules."""
    if source.is_file():
        return source.read_text(encoding="utf-8")
    nodes = chain.from_iterable(ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(source.rglob("*.py")))
    return "\n\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def prose_of(source: Path) -> str:
    """A page, or the docstrings of a package."""
    if source.is_file():
        return source.read_text(encoding="utf-8")
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = chain.from_iterable(ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(source.rglob("*.py")))
    return "\n\n".join(filter(None, (ast.get_docstring(node) for node in nodes if isinstance(node, kinds))))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(text: str) -> Iterator[str]:
    """Lines of code blocks, and code within sentences."""
    for block in FENCE.finditer(text):
        yield from block[3].splitlines()
    rest = FENCE.sub("", text)
    yield from re.findall(r"^ {4}((?:make|mathquarry|python) \S.*)$", rest, re.MULTILINE)
    yield from (" ".join(span.split()) for span in SPAN.findall(rest))


# Files and headings


@pytest.mark.parametrize("source", SOURCES, ids=named)
def test_a_path_that_is_named_is_there(source: Path) -> None:
    text = prose_of(source)
    named = set(PATH.findall(text)) - MADE_BY_THE_READER
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("source", SOURCES, ids=named)
def test_a_module_that_is_named_without_its_folder_is_somewhere(source: Path) -> None:
    text = prose_of(source)
    there = {path.name for room in (*ROOMS, "tests", "docs") for path in (ROOT / room).rglob("*.py")}
    assert [name for name in re.findall(r"(?<![\w/*])(\w+\.py)\b", text) if name not in there] == []


@pytest.mark.parametrize("source", SOURCES, ids=named)
def test_a_name_is_in_the_module_that_is_said_to_have_it(source: Path) -> None:
    said = [(name, path) for names, path in NAMED_IN.findall(text_of(source)) for name in re.findall(r"`(\w+)`", names)]
    assert [(name, path) for name, path in said if not re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8"))] == []


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST form them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    wrong = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        path = page.parent / target if target else page
        if not path.is_file() or (anchor and anchor not in headings(path)):
            wrong.append(link)
    assert wrong == []


def test_every_page_stands_in_the_contents() -> None:
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").split()
    assert [page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index" and page.stem not in contents] == []


# Addresses on the web


def malformed(url: str) -> bool:
    """Whether no such address can exist."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    local = host in ("localhost", "127.0.0.1")
    arxiv = host == "arxiv.org" and not re.fullmatch(r"/(abs|pdf)/\d{4}\.\d{4,5}(v\d+)?", parts.path)
    return arxiv or not (local or re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", host)) or ".." in url


@pytest.mark.parametrize("source", SOURCES, ids=named)
def test_an_address_on_the_web_is_well_formed(source: Path) -> None:
    text = prose_of(source)
    found = [url.rstrip(".,;:") for url in URL.findall(text.replace("https://...", ""))]
    links = [link for link in LINK.findall(FENCE.sub("", text)) if source.is_file() and "://" in link]
    assert [url for url in found if malformed(url)] == []
    assert [link for link in links if not URL.fullmatch(link)] == []
    assert [number for number in re.findall(r"arXiv:? ?(\d[\w.]*\w)", text) if not re.fullmatch(r"\d{4}\.\d{4,5}(v\d+)?", number)] == []


def test_make_linkcheck_sees_every_address_of_the_readme() -> None:
    """Sphinx does not read the README."""
    seen = {url for page in (ROOT / "docs").glob("*.md") for url in URL.findall(page.read_text(encoding="utf-8"))}
    assert set(URL.findall(PAGES[0].read_text(encoding="utf-8"))) <= seen
    assert PAGES[0].name == "README.md"


# Commands


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Arguments of each call of a program in a text."""
    for line in code(text):
        if not re.match(rf"(?:.* && |\S*/)?{program} ", line):
            continue
        try:
            words = shlex.split(re.sub(r" \| ", "|", line), comments=True)
        except ValueError:  # a quotation that goes on in the next line
            words = [*re.split("[\"']", line)[0].split(), "..."]
        for at, word in enumerate(words):
            if word.rpartition("/")[2] == program:
                rest = words[at + 1 :]
                ends = [rest.index(sign) for sign in ("&&", ";", "|", ">") if sign in rest]
                yield rest[: min(ends, default=None)]


def wrong_command(words: list[str], parser: argparse.ArgumentParser) -> str | None:
    """The commands that the command line would reject. Words in capitals are placeholders, brackets mark optional parts."""
    words = [word.strip("[]") for word in words]
    while nested := next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None):
        if not words or words[0] == "...":
            return None
        names = [name for name in words.pop(0).split("|") if name != "..."]
        if unknown := [name for name in names if name not in nested.choices]:
            return f"no command {unknown}"
        parser = nested.choices[names[0]]
    positions = [action for action in parser._actions if not action.option_strings]
    while words:
        word, _, given = words.pop(0).partition("=")
        if word.startswith("-"):
            action = parser._option_string_actions.get(word)
            if action is None:
                return f"no option {word}"
            if action.nargs == 0:
                continue
            value = given or (words.pop(0) if words else "")
            if word == "--set" and (wrong := wrong_override(value)):
                return wrong
        elif positions:
            action, value = positions[0], word
            if action.nargs not in ("*", "+"):
                positions.pop(0)
        else:
            return f"{word} is one argument too many"
        if action.choices and value and not value.isupper() and any(part not in action.choices for part in value.split("|")):
            return f"{value} is none of {list(action.choices)}"
    return None


def wrong_override(value: str) -> str | None:
    field = value.partition("=")[0].strip("'")
    return None if field in FIELDS | MADE_BY_THE_READER | {"section.field", ""} else f"no field {field}"


@pytest.mark.parametrize("source", SOURCES, ids=named)
def test_a_command_that_is_named_is_understood(source: Path) -> None:
    found = [(words, wrong_command(words, command_parser())) for words in commands(text_of(source), "mathquarry")]
    assert [(" ".join(words), wrong) for words, wrong in found if wrong] == []


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("ledger list", "no command ['list']"),
        ("run tiny --sets a=1", "no option --sets"),
        ("run tiny --set grpo.betas=0.1", "no field grpo.betas"),
        ("run tiny --from harvest", "harvest is none of"),
        ("run one two", "two is one argument too many"),
        ("ledger ls|list", "no command ['list']"),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(command: str, wrong: str) -> None:
    (words,) = commands(f"```\nmathquarry {command}   # a remark\n```", "mathquarry")
    assert (wrong_command(words, command_parser()) or "").startswith(wrong)


@pytest.mark.parametrize("source", SOURCES, ids=named)
def test_a_target_of_make_is_in_the_makefile(source: Path) -> None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", rules, re.MULTILINE))
    asked = [word for words in commands(text_of(source), "make") for word in words if "=" not in word]
    assert [word for word in asked if word not in targets] == []


@pytest.mark.parametrize("source", SOURCES, ids=named)
def test_a_module_that_python_is_told_to_run_is_there(source: Path) -> None:
    names = re.findall(r"python -m ((?:data|models|tasks|flows|tests)[\w.]*\w)", text_of(source))
    places = [(ROOT / name.replace(".", "/")) for name in names]
    assert [str(place) for place in places if not place.with_suffix(".py").exists() and not (place / "__main__.py").exists()] == []


# Fields of recipes


def configs_in(annotation: Any) -> list[type[BaseModel]]:
    """The configs that a field may contain, alone, in lists or by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [config for part in typing.get_args(annotation) for config in configs_in(part)]


def fields_of(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Dotted names of every field of a config and of those inside it."""
    for name, field in model.model_fields.items():
        yield above + name
        for inner in configs_in(field.annotation):
            yield from fields_of(inner, f"{above}{name}.")


FIELDS = set(fields_of(Recipe))
SECTIONS = {part for name in FIELDS for part in name.split(".")[:-1]}
TAILS = {".".join(name.split(".")[start:]) for name in FIELDS for start in range(name.count(".") + 1)}


def fields_named(text: str) -> Iterator[str]:
    """Names in running text that look like a field of a recipe: `grpo.kl_coef`, `label.estimate = "soft"`, `dedup.*`."""
    for span in SPAN.findall(FENCE.sub("", text)):
        match = re.fullmatch(r"([a-z_]\w*(?:\.\w+)+)(?:\.\*)?(?: ?= ?.+)?", span)
        if match and not FILE.search(match[1]) and match[1].split(".")[0] in SECTIONS:
            yield match[1]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_field_of_a_recipe_that_a_page_names_exists(page: Path) -> None:
    assert [name for name in fields_named(page.read_text(encoding="utf-8")) if name not in TAILS] == []


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Header and rows of each table."""
    for table in re.findall(r"(?:^\|.*\|$\n?)+", FENCE.sub("", text), re.MULTILINE):
        cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
        yield cells[0], cells[2:]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_table_begins_with_a_header(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert [table for table in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE) if not re.match(r".+\n\|[-:| ]+\|\n", table)] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_fields_in_a_column_of_fields_exist_in_the_sections_of_its_header(page: Path) -> None:
    wrong = []
    for header, rows in tables(page.read_text(encoding="utf-8")):
        for column in (column for column, title in enumerate(header) if title.startswith("field")):
            sections = re.findall(r"`\[([\w.]+)\]`", header[column])
            known = {name.removeprefix(f"{section}.") for section in sections for name in FIELDS} if sections else TAILS
            spans = [span.split(" =")[0].removesuffix(".*") for row in rows for span in SPAN.findall(row[column])]
            wrong += [span for span in spans if re.fullmatch(r"[a-z_]\w*(\.\w+)*", span) and span not in known]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_recipe_on_a_page_is_a_recipe(page: Path) -> None:
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        if block[2] == "toml":
            fields = tomllib.loads(block[3])
            if "path" in fields:  # an annotation file
                continue
            fields.pop("extends", None)
            try:
                Recipe.model_validate({"name": "page"} | fields)
            except ValidationError as error:
                pytest.fail(f"{block[3]}\n{error}")
