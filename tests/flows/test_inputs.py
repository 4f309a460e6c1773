"""What a recipe names and is not there is said before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.errors import MathQuarryError
from flows.inputs import check_inputs
from flows.recipe import load_recipe


def test_every_missing_file_is_named_with_its_field(tmp_path: Path) -> None:
    (tmp_path / "there.jsonl").touch()
    missing = {
        "problems.source": {"kind": "files", "train": [f"{tmp_path}/there.jsonl", f"gsm8k={tmp_path}/train"], "test": ["hf://a/b:c:test"]},
        "problems.benchmarks": [f"{tmp_path}/benchmark"],
        "crawl.source": {"kind": "files", "warcs": [f"{tmp_path}/*.warc.gz", "https://example.org/a.warc.gz"]},
        "mine.annotations": f"{tmp_path}/domains.toml",
        "model": {"kind": "pretrained", "path": "package:no_such_model"},
    }
    overrides = [f"{field}={inline(value)}" for field, value in missing.items()]
    with pytest.raises(MathQuarryError) as error:
        check_inputs(load_recipe("tiny", overrides))
    said = [line.strip() for line in str(error.value).splitlines() if line.startswith("  ")]
    assert said == [
        f"problems.source.train: {tmp_path}/train",
        f"problems.benchmarks: {tmp_path}/benchmark",
        f"crawl.source.warcs: {tmp_path}/*.warc.gz",
        f"mine.annotations: {tmp_path}/domains.toml",
        "model.path: package:no_such_model",
    ]
    assert "MATHQUARRY_DATA_SOURCE" in str(error.value)


def inline(value: object) -> str:
    """As TOML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.parametrize("name", ["tiny", "1b", "paper-7b"])
def test_a_recipe_that_generates_or_downloads_its_data_needs_nothing_here(name: str) -> None:
    check_inputs(load_recipe(name))
