"""The files that a recipe names, looked for before anything starts: where a run waits for them, it may have waited for hours."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util

from data.config import CommonCrawlRecords, CrawlFiles, ProblemFiles
from data.crawl.remote import is_http
from data.errors import MathQuarryError
from data.problems.registry import find
from data.sources import expand
from flows.recipe import Recipe
from tasks.pretrain import model_sources, text_sources

HINT = "In the services' containers /data is the folder of the host that MATHQUARRY_DATA_SOURCE in docker/.env names; they see no other."


def check_inputs(recipe: Recipe) -> None:
    """Raises `MathQuarryError` listing every local file or package that the recipe names and that is not here."""
    missing = [f"  {field}: {name}" for field, name in named_inputs(recipe) if not _is_here(name)]
    if missing:
        lines = "\n".join(missing)
        raise MathQuarryError(f"recipe {recipe.name} needs what is not here:\n{lines}\nPut it there or change these fields. {HINT}")


def named_inputs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(field, name) of what the recipe's stages read from outside the store."""
    problems, crawl, mine, harness = recipe.problems, recipe.crawl.source, recipe.mine, recipe.harness
    if isinstance(problems.source, ProblemFiles):
        for split in ("train", "test"):
            for entry in getattr(problems.source, split):
                yield f"problems.source.{split}", find(entry, problems.source.dataset, split == "train")[1]
    yield from (("problems.benchmarks", name) for name in problems.benchmarks)
    if isinstance(crawl, CrawlFiles):
        yield from (("crawl.source.warcs", name) for name in crawl.warcs)
    if isinstance(crawl, CommonCrawlRecords):
        for field, names in (("index", crawl.index), ("annotations", [crawl.annotations]), ("known", crawl.known)):
            yield from ((f"crawl.source.{field}", name) for name in names)
    chosen = {
        "mine.seed_pages.path": mine.seed_pages.path,
        "mine.annotations": mine.annotations,
        "mine.labelled": mine.labelled,
        "mine.tokenizer": mine.tokenizer,
        "harness.data": harness.data if harness.tasks else None,
        "harness.definitions": harness.definitions if harness.tasks else None,
    }
    yield from ((field, name) for field, name in chosen.items() if name)
    yield from (("model.path", name) for name in model_sources(recipe.model))
    yield from (("pretrain.mix", name) for name in text_sources(recipe.pretrain))


def _is_here(name: str) -> bool:
    """Whether a local file or package is there. Of what is elsewhere, only its own stage can tell."""
    if name.startswith("package:"):
        return util.find_spec(name.removeprefix("package:")) is not None
    if is_http(name) or "://" in name:
        return True
    try:
        return bool(expand([name]))
    except MathQuarryError:
        return False
