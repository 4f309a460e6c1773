"""Cost and hardware of a run, from its manifests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Table
from mathquarry.data.report.sections.cost import CORE_WATTS, HEADERS, ON_GPU, cost_of, cost_section, environment_section
from mathquarry.data.store.workspace import MetricLog
from mathquarry.flows.stages.registry import STAGES

PLACE: dict[str, Any] = {
    "system": "Linux 6.8",
    "machine": "x86_64",
    "host": "container",
    "processor": "EPYC",
    "processors": 16,
    "memory_bytes": 128 << 30,
    "gpus": [{"name": "H200", "memory_mib": 143360.0, "watts": 700.0, "driver": "570.86"}] * 2,
    "packages": {"torch": "2.13.0", "transformers": "5.19.0"},
}
CODE = {"version": "0.1.0", "revision": "3f9c1a2b4d5e", "python": "3.11.9"}


def artifact(folder: Path, name: str, manifest: dict[str, Any] | None = None, **summary: float) -> ReportArtifact:
    path = folder / name
    path.mkdir()
    (path / "manifest.json").write_text(json.dumps({"code": CODE} | (manifest or {})))
    return ReportArtifact(name, name.split("-")[0], name, path, {}, summary, {}, 100.0, False)


def recorded(cpu_seconds: float = 360.0, **place: Any) -> dict[str, Any]:
    return {"usage": {"cpu_seconds": cpu_seconds, "peak_bytes": 3 << 30}, "environment": PLACE | place}


def rows(made: Sequence[ReportArtifact], **reused: bool) -> dict[str, dict[str, Any]]:
    table = cost_section(made, reused).blocks[-1]
    assert isinstance(table, Table)
    return {str(row[0]): dict(zip(HEADERS, row[1:], strict=True)) for row in table.rows}


def test_energy_is_processor_time_at_a_stated_power_and_gpu_time_at_the_boards_limit(tmp_path: Path) -> None:
    found = cost_of(artifact(tmp_path, "grpo-1", recorded()))
    assert found.gpu_seconds == 200
    assert found.joules == 360 * CORE_WATTS + 100 * (700 + 700)
    assert cost_of(artifact(tmp_path, "mine", recorded())).joules == 360 * CORE_WATTS


def test_the_page_says_that_energy_is_an_estimate_and_by_which_rule(tmp_path: Path) -> None:
    table = cost_section([artifact(tmp_path, "mine", recorded())], {}).blocks[-1]
    assert isinstance(table, Table)
    assert "estimate, not a measurement" in table.note
    assert f"{CORE_WATTS:g} W per core (an assumption)" in table.note


def test_what_was_not_recorded_is_a_dash_and_left_out_of_sums(tmp_path: Path) -> None:
    made = [artifact(tmp_path, "mine"), artifact(tmp_path, "sft", recorded(gpus=[]), tokens=40_960)]
    found = rows(made)
    assert list(found["mine"].values()) == ["1.7 min", *["–"] * 6]
    assert list(found["sft"].values()) == ["1.7 min", "6.0 min", "–", "3.00 GiB", "41 k", "–", "1 Wh"]
    assert found["All"]["Energy, estimated"] == "1 Wh"
    table = cost_section(made, {}).blocks[-1]
    assert isinstance(table, Table)
    assert "1 of 2 artifacts did not record" in table.note


@pytest.mark.parametrize("gpus", [None, [PLACE["gpus"][0] | {"watts": None}]])
def test_without_the_power_of_the_gpus_there_is_no_estimate(tmp_path: Path, gpus: Any) -> None:
    assert cost_of(artifact(tmp_path, "sft", recorded(gpus=gpus))).joules is None


def test_tokens_are_those_of_the_batches_the_rollouts_and_the_answers(tmp_path: Path) -> None:
    assert (cost_of(artifact(tmp_path, "reward-0", tokens=512)).trained, cost_of(artifact(tmp_path, "sft", tokens=99)).sampled) == (
        512,
        None,
    )
    grpo = artifact(tmp_path, "grpo-1", completions=64)
    for step, tokens in enumerate((30.0, 40.0)):
        MetricLog(grpo.path / "metrics.jsonl").log(step, completion_tokens=tokens)
    assert (cost_of(grpo).trained, cost_of(grpo).sampled) == (64 * 35, 64 * 35)
    answers = artifact(tmp_path, "evaluate-sft")
    pq.write_table(pa.table({"tokens": [3, 4, 5]}), answers.path / "answers.parquet")
    assert (cost_of(answers).trained, cost_of(answers).sampled) == (None, 12)


def test_several_updates_learn_several_times_and_given_solutions_are_not_sampled(tmp_path: Path) -> None:
    grpo = artifact(tmp_path, "grpo-1", completions=10)
    MetricLog(grpo.path / "metrics.jsonl").log(1, completion_tokens=7.0)
    grpo.config["grpo"] = {"num_updates": 3, "paradigm": {"data": "examples"}}
    assert (cost_of(grpo).trained, cost_of(grpo).sampled) == (210, None)


def test_what_this_run_made_is_summed_apart_from_what_it_found(tmp_path: Path) -> None:
    made = [artifact(tmp_path, "mine", recorded(cpu_seconds=40.0)), artifact(tmp_path, "sft", recorded(cpu_seconds=50.0))]
    assert "Made in this run" not in rows(made)
    found = rows(made, mine=True)
    assert [found[name]["Processor time"] for name in ("Made in this run", "All")] == ["50.0 s", "90.0 s"]


def test_the_stages_that_use_gpus_are_those_of_the_flows() -> None:
    # `import` runs where torch is, but only copies weights.
    assert {name for name, info in STAGES.items() if info.gpu} - {"import"} == ON_GPU


def test_artifacts_made_in_different_places_have_a_column_for_each(tmp_path: Path) -> None:
    here = [artifact(tmp_path, name, recorded()) for name in ("sft", "grpo-1")]
    section = environment_section([*here, artifact(tmp_path, "mine", recorded(gpus=[], packages={"torch": "2.12.0"}))])
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert list(table.headers) == ["", "2 artifacts", "mine"]
    facts = {row[0]: tuple(row[1:]) for row in table.rows}
    assert facts["Artifacts"] == ("sft, grpo-1", "mine")
    assert facts["torch"] == ("2.13.0", "2.12.0")
    assert facts["transformers"] == ("5.19.0", "–")
    assert facts["GPUs"] == ("2 × H200, 140 GiB, driver 570.86", "none")
    assert facts["Host"] == ("container", "container")
    assert facts["Processor"] == ("16 × EPYC",) * 2


def test_an_earlier_manifest_tells_python_and_code_only(tmp_path: Path) -> None:
    section = environment_section([artifact(tmp_path, "sft")])
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert [list(row) for row in table.rows] == [["MathQuarry", "0.1.0 3f9c1a2b4d5e"], ["Python", "3.11.9"]]
    assert table.headers[1] == "All artifacts"
