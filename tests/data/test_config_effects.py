"""Every field of a text stage's config changes the stage's result: tiny runs with a base value and with another one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mathquarry.data.crawl.build import build_crawl
from mathquarry.data.crawl.config import CrawlConfig, GeneratedCrawl
from mathquarry.data.mine.classify.classifier import train, write_examples
from mathquarry.data.mine.config import ClassifierConfig, DecontaminationConfig, DedupConfig
from mathquarry.data.mine.library.benchmarks import BenchmarkIndex, benchmark_texts
from mathquarry.data.mine.library.keys import band_keys
from mathquarry.data.mine.pages.hashing import words
from mathquarry.data.mine.pages.signatures import minhash
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import ProblemsConfig
from mathquarry.data.problems.problem import Problem
from mathquarry.data.solutions.config import CurateConfig
from mathquarry.data.solutions.curate import curate
from mathquarry.data.store.workspace import Progress, Workspace

Fields = Mapping[str, Any]

PROBLEMS: dict[str, Any] = {"source": {"kind": "generated", "train": 60, "test": 12, "largest": 9}}
CRAWL = {
    "pages": 120,
    "domains": 12,
    "warc_files": 2,
    "near_duplicates": 6,
    "url_duplicates": 4,
    "contaminated": 4,
}


def record(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def workspace(folder: Path) -> Workspace:
    made = Workspace.at(folder)
    return Workspace(made.out, made.scratch, Progress(quiet=True), made.metrics)


def problems(folder: Path, config: ProblemsConfig) -> Path:
    build_problems(config, workspace(folder))
    return folder / "out"


@pytest.mark.parametrize(
    "change", [{"train": 50}, {"test": 9}, {"largest": 12}, {"two_step_share": 0.9}, {"seed": 1}], ids=lambda change: next(iter(change))
)
def test_a_field_of_generated_problems_shows_in_the_problems(change: Fields, tmp_path: Path) -> None:
    source = {**PROBLEMS["source"], **{name: value for name, value in change.items() if name != "seed"}}
    usual = record(problems(tmp_path / "usual", ProblemsConfig.model_validate(PROBLEMS)))
    same = record(problems(tmp_path / "same", ProblemsConfig.model_validate(PROBLEMS)))
    other = record(problems(tmp_path / "other", ProblemsConfig.model_validate({"source": source, "seed": change.get("seed", 0)})))
    assert usual == same
    assert usual != other


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return problems(tmp_path_factory.mktemp("problems"), ProblemsConfig.model_validate(PROBLEMS))


@pytest.mark.parametrize(
    "change",
    [
        {"pages": 130},
        {"domains": 14},
        {"math_share": 0.6},
        {"warc_files": 3},
        {"near_duplicates": 8},
        {"url_duplicates": 6},
        {"contaminated": 2},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_field_of_the_mini_web_shows_in_its_pages(change: Fields, asked: Path, tmp_path: Path) -> None:
    def built(name: str, fields: Fields) -> dict[str, str]:
        source = GeneratedCrawl(**{field: value for field, value in fields.items() if field != "seed"})
        build_crawl(CrawlConfig(source=source, seed=fields.get("seed", 0)), asked, workspace(tmp_path / name))
        return record(tmp_path / name / "out")

    usual, other = built("usual", CRAWL), built("other", {**CRAWL, **change})
    assert usual["warcs.json"] != other["warcs.json"]
    # How many files the pages are dealt out to changes no page.
    assert (usual["truth.jsonl"] == other["truth.jsonl"]) is ("warc_files" in change)


@pytest.mark.parametrize(
    "change", [{"formats": {"cot": 0.5}}, {"wrong_step_share": 0.5}, {"seed": 1}], ids=lambda change: next(iter(change))
)
def test_a_field_of_curation_shows_in_the_examples(change: Fields, asked: Path, tmp_path: Path) -> None:
    base: dict[str, Any] = {"formats": {"cot": 1.0, "pot": 0.5}, "wrong_step_share": 0.2}
    records = []
    for name, fields in (("usual", base), ("same", base), ("other", {**base, **change})):
        curate(CurateConfig(**fields), asked, workspace(tmp_path / name))
        records.append(record(tmp_path / name / "out"))
    assert records[0] == records[1]
    assert records[0]["examples.jsonl"] != records[2]["examples.jsonl"]


@pytest.mark.parametrize(
    "change",
    [{"dim": 8}, {"learning_rate": 0.9}, {"word_ngrams": 1}, {"min_count": 9}, {"epochs": 2}, {"buckets": 50}],
    ids=lambda change: next(iter(change)),
)
def test_a_field_of_the_classifier_shows_in_its_model(change: Fields, tmp_path: Path) -> None:
    base = {"dim": 4, "buckets": 500, "learning_rate": 0.5, "epochs": 4, "min_count": 1, "word_ngrams": 2}
    texts = [("theorem lemma proof integral", True), ("holiday coffee hotel garden", False)] * 8
    write_examples(tmp_path / "examples.txt", texts, len(texts), seed=0)
    models = []
    for name, fields, seed in (("usual", base, 0), ("same", base, 0), ("other", {**base, **change}, 0)):
        train(tmp_path / "examples.txt", tmp_path / name, ClassifierConfig(**fields), seed)
        models.append((tmp_path / name).read_bytes())
    assert models[0] == models[1] != models[2]


@pytest.mark.parametrize("change", [{"bands": 7}, {"rows": 4}, {"ngram": 3}], ids=lambda change: next(iter(change)))
def test_a_field_of_duplicate_removal_shows_in_the_keys(change: Fields) -> None:
    text = " ".join(f"w{number % 37}" for number in range(100))
    usual, other = (band_keys(minhash(text, config)[None], config) for config in (DedupConfig(), DedupConfig(**change)))
    assert usual.shape != other.shape or not np.array_equal(usual, other)


QUESTION = "A baker fills nineteen trays with fourteen almond buns each and sells every second tray today"
HELD_OUT = [
    Problem("q", QUESTION, "133", source="bakery"),
    Problem("s", "Compute the ninth prime cube", "twelve thousand one", source="cubes"),
]


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (" ".join(QUESTION.split()[:7]), {"ngram": 7}),
        ("they compute the ninth prime cube here", {"shortest": 6}),
        ("it is twelve thousand one in all", {"short_answers": True}),
    ],
    ids=["ngram", "shortest", "short_answers"],
)
def test_a_field_of_decontamination_decides_whether_a_text_quotes(text: str, change: Fields) -> None:
    found = [
        bool(BenchmarkIndex(benchmark_texts(HELD_OUT, config), config).find(words(text)))
        for config in (DecontaminationConfig(), DecontaminationConfig(**change))
    ]
    assert found[0] is not found[1]
