"""The documentation is correct and complete: the paper's numbers, a page for each stage, a description for each field."""

import ast
import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mathquarry.flows.recipe import Recipe, load_recipe
from mathquarry.flows.stages.registry import STAGES

ROOT = Path(__file__).parents[1]
PAPER_ROW = re.compile(r"^\| .+ \| `([\w.]+)` \| `(.+)` \|$", re.MULTILINE)


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


def test_what_was_never_run_on_a_gpu_stands_on_one_page_alone() -> None:
    """Elsewhere such a remark outlives the run that ends it."""
    said = re.compile(
        r"(never|not)( been)? (yet )?(run|tried|tested|seen)( yet)? on( a| any)? GPUs?|not run yet|not been run", re.IGNORECASE
    )
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = {page.name for page in pages if said.search(" ".join(page.read_text(encoding="utf-8").split()))}
    assert found == {"never-run.md"}
    assert "docs/never-run.md" in pages[0].read_text(encoding="utf-8")


def test_the_papers_mix_and_comparison_setting_are_in_its_recipes() -> None:
    mix = {source["name"]: source["weight"] for source in field(load_recipe("paper-7b"), "pretrain.mix")}
    assert mix == {"corpus": 0.56, "algebraic-stack": 0.04, "arxiv": 0.1, "code": 0.2, "natural-language": 0.1}
    small = field(load_recipe("1b"), "pretrain")
    assert (small["total_tokens"], small["batch_tokens"], small["learning_rate"]) == (150_000_000_000, 4_000_000, 5.3e-4)


STAGE_PAGES = {
    "problems": "problem-sets",
    "crawl": "mining-sources",
    "mine": "mining",
    "pretrain": "pretraining",
    "curate": "solutions",
    "sft": "solutions",
    "rejection": "rejection-sampling",
    "reward": "reward",
    "grpo": "grpo",
    "evaluate": "evaluation",
    "harness": "harness",
}


def test_every_stage_has_a_page() -> None:
    """The report computes nothing: it shows what other stages made."""
    assert set(STAGES) - {"report", "import"} == set(STAGE_PAGES)


@pytest.mark.parametrize(("stage", "page"), STAGE_PAGES.items())
def test_the_page_of_a_stage_names_paper_config_code_and_test_and_numbers_its_deviations(stage: str, page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert f"`{stage}`" in text
    assert re.search(r"(?:[Pp]aper sections?|sections? \d[\d.]* of the paper) ?\d?", text)
    assert f"[{stage}" in text
    code, tests = table_of(text)
    assert [name for name in [*code, *tests] if not (ROOT / name).exists()] == []
    assert code, "no code"
    assert tests, "no test"
    deviations = re.search(r"^(?:#+ )?.*[Dd]eviation.*\n\n((?:\d\. .+\n(?: {3}.+\n)*)+)", text, re.MULTILINE)
    assert deviations, "no numbered deviations"
    numbers = [int(number) for number in re.findall(r"^(\d)\. ", deviations[1], re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def table_of(text: str) -> tuple[list[str], list[str]]:
    """Modules and tests of the table with a column `code` (or `where`) and a column `test`; folders may stand in the header."""
    for table in re.findall(r"(?:^\|.*\|$\n)+", text, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
        columns = {kind: column for column, title in enumerate(header) for kind in ("code", "where", "test") if title.startswith(kind)}
        if "test" in columns and ("code" in columns or "where" in columns):
            found = []
            for column in (columns.get("code", columns.get("where", 0)), columns["test"]):
                folder = next(iter(re.findall(r"`([\w/]+/)`", header[column])), "")
                names = [name for row in rows for name in re.findall(r"`([\w./]+(?:\.py|/))`", row[column])]
                found.append([name if name.startswith(("data/", "models/", "flows/", "tests/")) else folder + name for name in names])
            return found[0], found[1]
    raise AssertionError("no table with columns of code and of tests")


def configs() -> list[type[BaseModel]]:
    """Every config, form and setting of the four packages."""
    for room in ("data", "models", "tasks", "flows"):
        package = importlib.import_module(f"mathquarry.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"mathquarry.{room}."):
            if module.name.endswith((".config", ".forms", ".recipe", ".experiments", ".review", ".deploy", ".annotations", ".registry")):
                importlib.import_module(module.name)
    waiting, found = [BaseModel], []
    while waiting:
        below = [model for model in waiting.pop().__subclasses__() if model not in found]
        found += below
        waiting += below
    ours = [model for model in found if model.__module__.startswith("mathquarry.")]
    return [model for model in ours if not model.__name__.startswith(("_", "State["))]  # the latter is Prefect's


def test_every_field_that_a_person_can_set_says_what_it_is() -> None:
    """By its description, or by the docstring of the config that it holds."""
    found = configs()
    assert {"ProblemsConfig", "GRPOConfig", "Recipe", "RunForm", "SnapshotForm", "AblateConfig", "DeploySettings"} <= {
        model.__name__ for model in found
    }
    silent = [model.__name__ for model in found if not model.__doc__]
    for model in found:
        for name, field in model.model_fields.items():
            holds = field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) else None
            if name != "kind" and not field.description and not (holds and holds.__doc__):
                silent.append(f"{model.__name__}.{name}")
    assert silent == []


def messages() -> list[str]:
    """Every string that the code can print, with "..." in place of values."""
    found = []
    for room in ("data", "models", "tasks", "flows"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def test_every_message_on_the_troubleshooting_page_is_one_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = [
        line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ") and not line.startswith("| message")
    ]
    assert len(rows) > 40
    known = messages()
    assert [row for row in rows if not any(all(part in one for part in row.split("...")) for one in known)] == []
