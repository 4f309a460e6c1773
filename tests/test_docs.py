"""The documentation says what is so: numbers, names of files and fields."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PAPER_ROW = re.compile(r"^\| .+ \| `([\w.]+)` \| `(.+)` \|$", re.MULTILINE)
ROOM_PATH = re.compile(r"`((?:data|models|tasks|flows|tests|docker)/[\w./-]+\.(?:py|toml|md|yaml))`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def field(recipe: Recipe, path: str) -> Any:
    """A field of a recipe by its dotted name, as JSON has it."""
    value: Any = recipe.model_dump(mode="json")
    for part in path.split("."):
        value = value[part]
    return value


def test_every_number_of_the_paper_is_the_default_of_the_field_that_the_page_names() -> None:
    rows = PAPER_ROW.findall((ROOT / "docs" / "paper.md").read_text(encoding="utf-8"))
    assert len(rows) > 35
    recipe = Recipe(name="defaults")
    assert {path: field(recipe, path) for path, _ in rows} == {path: json.loads(value) for path, value in rows}


def test_the_papers_mix_and_comparison_setting_are_in_its_recipes() -> None:
    mix = {source["name"]: source["weight"] for source in field(load_recipe("paper-7b"), "pretrain.mix")}
    assert mix == {"corpus": 0.56, "algebraic-stack": 0.04, "arxiv": 0.1, "code": 0.2, "natural-language": 0.1}
    small = field(load_recipe("1b"), "pretrain")
    assert (small["total_tokens"], small["batch_tokens"], small["learning_rate"]) == (150_000_000_000, 4_000_000, 5.3e-4)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [name for name in ROOM_PATH.findall(text) if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_another_page_leads_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    local = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link and not link.startswith(("#", "mailto:"))]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


def test_every_page_stands_in_the_contents() -> None:
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").split()
    assert [page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index" and page.stem not in contents] == []
