"""Experiments about training texts, as a user runs them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mathquarry.data.store.store import Store
from tests.e2e.command_line import SMALL, CommandLine

pytestmark = pytest.mark.slow

FIELDS = [
    *SMALL,
    "ablate.batch_tokens=4096",
    "ablate.held_out_steps=2",
    "ablate.fine_tune_steps=0",
    'ablate.held_out=[{name="problems", documents=20}]',
    'ablate.corpora.start=[{total_tokens=8192, mix=[{name="general", weight=1.0, path="generated:general"}]}]',
    'ablate.corpora.arms.crawl={corpus="crawl", parts=[{total_tokens=16384, mix=[{name="corpus", weight=1.0}]}]}',
    'ablate.corpora.arms.mined-small={parts=[{total_tokens=16384, mix=[{name="corpus", weight=1.0, best_tokens=9000}]}]}',
    'ablate.corpora.arms.mined={parts=[{total_tokens=16384, mix=[{name="corpus", weight=1.0}]}]}',
]


def test_arms_differ_in_their_texts_only_and_another_seed_only_adds(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    options = ["ablate", "tiny", "corpora", "--store", str(store), *(part for field in FIELDS for part in ("--set", field))]
    output = command_line.run(*options, "--set", "ablate.seeds=[0]")
    stages = {stage["name"]: stage["key"] for stage in Store(store).runs()[-1]["stages"]}
    manifests = {
        arm: Store(store).get("pretrain", stages[f"pretrain-corpora-{arm}-0"]).manifest for arm in ("crawl", "mined-small", "mined")
    }
    assert {manifest["inputs"]["before"] for manifest in manifests.values()} == {stages["pretrain-corpora-start-0"]}
    assert {manifest["summary"]["tokens"] for manifest in manifests.values()} == {16384}
    assert manifests["crawl"]["inputs"]["corpus"] == stages["mine-crawl"] != stages["mine"] == manifests["mined"]["inputs"]["corpus"]
    read = {arm: manifest["summary"]["corpus_tokens_read"] for arm, manifest in manifests.items()}
    assert read["mined-small"] < read["mined"]
    kept = {name: Store(store).get("mine", stages[name]).manifest["summary"]["pages"] for name in ("mine", "mine-crawl")}
    assert kept["mine-crawl"] > kept["mine"]
    assert [line.split()[0] for line in output.split("\nArm ")[1].splitlines()[1:5]] == ["start", "crawl", "mined-small", "mined"]

    command_line.run(*options, "--set", "ablate.seeds=[0, 1]")
    both = {stage["name"]: stage for stage in Store(store).runs()[-1]["stages"]}
    assert all(stage["reused"] for name, stage in both.items() if name.endswith("-0") or name in ("mine", "mine-crawl"))
    assert both["pretrain-corpora-mined-1"]["key"] != both["pretrain-corpora-mined-0"]["key"]


def test_arms_that_begin_alike_share_that_training(command_line: CommandLine, finished_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    part = 'total_tokens=8192, mix=[{name="corpus", weight=1.0}]'
    arms = f"ablate.code.arms={{once={{parts=[{{{part}}}]}}, twice={{parts=[{{{part}}}, {{{part}}}]}}}}"
    fields = [*SMALL, "ablate.batch_tokens=4096", "ablate.seeds=[0]", "ablate.fine_tune_steps=1", arms]
    command_line.run("ablate", "tiny", "code", "--store", str(store), *(part for field in fields for part in ("--set", field)))
    stages = {stage["name"]: stage["key"] for stage in Store(store).runs()[-1]["stages"]}
    assert {f"evaluate-code-{arm}-0" for arm in ("once", "twice")} <= set(stages)
    assert stages["pretrain-part1-code-twice-0"] == stages["pretrain-code-once-0"] != stages["pretrain-code-twice-0"]


def test_an_experiment_without_arms_is_reported(command_line: CommandLine, tmp_path: Path) -> None:
    output = command_line.run("ablate", "paper-7b", "papers", "--store", str(tmp_path), status=1)
    assert "recipe paper-7b: ablate.papers has no arms. docs/experiments.md" in output
