"""The complete pipeline as a user runs it: once, again, with one field changed, and with queries about lineage."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mathquarry.data.ledger.ledger import TABLES, Ledger
from mathquarry.data.ledger.sql import ask
from mathquarry.data.report.build import make_sections
from mathquarry.data.report.page.blocks import Bars, Chart, Fold
from mathquarry.data.store.store import Store, verify_files
from mathquarry.tasks.report import report_artifacts
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow


def keys(store: Path) -> dict[str, str]:
    """Name in the newest run -> key."""
    return {stage["name"]: stage["key"] for stage in Store(store).runs()[-1]["stages"]}


@pytest.fixture
def copied_store(finished_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_store, tmp_path / "store"))


def test_every_stage_leaves_a_whole_artifact_and_a_ledger_row(finished_store: Path) -> None:
    run = Store(finished_store).runs()[-1]
    assert run["status"] == "completed"
    names = {stage["name"] for stage in run["stages"]}
    assert {"mine", "pretrain", "sft", "reward-0", "grpo-1", "reward-1", "grpo-2", "evaluate-rl-2", "report"} <= names
    for folder, manifest in Store(finished_store).manifests():
        assert verify_files(folder, manifest) == []
    recorded = {row["key"] for row in Ledger(Store(finished_store)).query("select key from artifacts")}
    assert recorded == set(keys(finished_store).values())
    assert list((finished_store / "work").iterdir()) == []


def test_every_number_of_the_report_is_what_its_query_and_the_raw_rows_give(finished_store: Path) -> None:
    run, ledger = Store(finished_store).runs()[-1], Ledger(Store(finished_store))
    stages = {stage["name"]: f"{stage['stage']}/{stage['key']}" for stage in run["stages"] if stage["stage"] != "report"}
    artifacts = report_artifacts(str(finished_store), stages)
    metrics = [block for section in make_sections(run, artifacts) for block in section.blocks if not isinstance(block, Fold)]
    assert len(metrics) > 25
    for block in metrics:
        assert ask(ledger, block.source.query).rows, block.title

    path = {artifact.name: artifact.path for artifact in artifacts}
    charts = {block.title: {trace.get("name", ""): trace for trace in block.spec["data"]} for block in metrics if isinstance(block, Chart)}
    answers = pq.read_table(path["evaluate-rl-2"] / "answers.parquet", filters=[("kind", "==", "greedy"), ("format", "==", "cot")])
    greedy = charts["Accuracy by stage"]["RL 2"]
    assert greedy["y"][greedy["x"].index("Greedy")] == pytest.approx(np.mean(answers["correct"].to_numpy(False)), abs=1e-6)
    rollouts = pq.read_table(path["grpo-1"] / "rollouts.parquet", filters=[("step", "==", 1)])
    reward, right = rollouts["reward"].to_numpy(), rollouts["correct"].to_numpy(False)
    shares = np.array([right[rollouts["group"].to_numpy() == group].mean() for group in np.unique(rollouts["group"])])
    assert charts["Reward and true accuracy"]["reward model's score"]["y"][0] == pytest.approx(reward.mean(), rel=1e-5)
    assert charts["Reward and true accuracy"]["share of correct answers"]["y"][0] == pytest.approx(right.mean(), rel=1e-5)
    assert charts["Groups by outcome"]["mixed"]["y"][0] == pytest.approx(np.mean((shares > 0) & (shares < 1)), rel=1e-5)
    pages = sum(pq.read_metadata(part).num_rows for part in (path["mine"] / "corpus").iterdir())
    assert charts["Pages collected"][""]["y"][-1] == pages
    dropped = next(block for block in metrics if isinstance(block, Bars) and block.title == "Pages dropped, by reason")
    reasons = Counter(pq.read_table(path["mine"] / "dropped.parquet")["reason"].to_pylist())
    assert [int(bar.value.replace(",", "")) for bar in dropped.rows] == [count for _, count in reasons.most_common()]


def test_running_the_same_recipe_again_does_nothing_and_says_so(command_line: CommandLine, copied_store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied_store.glob("artifacts/*/*/*")}
    traced = CommandLine({**command_line.environment, "PYTHONPROFILEIMPORTTIME": "1"})
    output = traced.run(*traced.tiny(copied_store))
    assert "Nothing to do" in output
    # What takes seconds to import is imported by what has something to do.
    imported = {line.rpartition("|")[2].strip() for line in output.splitlines() if line.startswith("import time:")}
    assert "prefect" in imported
    assert not imported & {"torch", "transformers", "datasets", "sympy", "scipy.stats", "tldextract", "mathquarry.data.mine.loop"}
    assert {path: path.stat().st_mtime_ns for path in copied_store.glob("artifacts/*/*/*")} == before


def test_changing_one_field_redoes_that_stage_and_what_depends_on_it(command_line: CommandLine, copied_store: Path) -> None:
    before = keys(copied_store)
    command_line.run(*command_line.tiny(copied_store, "--set", "grpo.kl_coef=0.05"))
    after = keys(copied_store)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"grpo-1", "evaluate-rl-1", "reward-1", "grpo-2", "evaluate-rl-2", "report"}


def test_forcing_a_stage_makes_the_same_keys_again(command_line: CommandLine, copied_store: Path) -> None:
    before = keys(copied_store)
    output = command_line.run(*command_line.tiny(copied_store, "--rebuild", "report"))
    assert "1 artifacts made" in output
    assert keys(copied_store) == before


def test_beginning_at_a_stage_needs_what_comes_before(command_line: CommandLine, tmp_path: Path) -> None:
    output = command_line.run(*command_line.tiny(tmp_path / "empty", "--from", "sft"), status=1)
    assert "is not in the store" in output
    assert "Traceback" not in output


def test_lineage_of_the_policy_reaches_warcs_problems_config_and_code(command_line: CommandLine, finished_store: Path) -> None:
    output = command_line.run("ledger", "lineage", "grpo-2", "--store", str(finished_store))
    for expected in (
        "reward: reward",
        "policy: grpo",
        "examples: curate",
        "corpus: mine",
        "crawl: crawl",
        "problems: problems",
        "warc warc/",
    ):
        assert expected in output
    assert '"kl_coef": 0.04' in output
    assert "code 0.1.0" in output


def test_a_deleted_ledger_comes_back_row_for_row(command_line: CommandLine, copied_store: Path) -> None:
    def rows() -> dict[str, list[dict[str, Any]]]:
        ledger = Ledger(Store(copied_store))
        return {
            table: ledger.query(f"select * exclude (path) from {table} order by all")
            if table == "artifacts"
            else ledger.query(f"select * from {table} order by all")
            for table in TABLES
        }

    before = rows()
    (copied_store / "ledger.duckdb").unlink()
    command_line.run("ledger", "sync", "--store", str(copied_store))
    assert rows() == before


def test_a_damaged_file_is_named(command_line: CommandLine, copied_store: Path) -> None:
    command_line.run("ledger", "verify", "--store", str(copied_store))
    victim = next(copied_store.glob("artifacts/sft/*/model/model.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    output = command_line.run("ledger", "verify", "--store", str(copied_store), status=1)
    assert "model/model.safetensors has changed" in output


def test_artifacts_that_no_run_uses_are_garbage(command_line: CommandLine, copied_store: Path) -> None:
    assert "nothing to collect" in command_line.run("ledger", "gc", "--older-than", "0", "--store", str(copied_store))
    (newest,) = (copied_store / "runs").iterdir()
    newest.unlink()
    assert "unused mine/" in command_line.run("ledger", "gc", "--older-than", "0", "--store", str(copied_store))
    command_line.run("ledger", "gc", "--older-than", "0", "--yes", "--store", str(copied_store))
    assert list(copied_store.glob("artifacts/*/*")) == []
