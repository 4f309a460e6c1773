"""Every wrong input is reported before the first stage, in one line that names its field."""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.hub_names import HubAway
from mathquarry.flows.__main__ import main
from mathquarry.flows.cli.written import inline
from mathquarry.flows.pipeline import run_pipeline
from mathquarry.flows.preflight.check import Preflight, check_here
from mathquarry.flows.preflight.machine import machine_faults
from mathquarry.flows.preflight.planned import PlannedRun, planned_run
from mathquarry.flows.recipe import load_recipe
from mathquarry.flows.recipe_files import recipe_names

QUESTIONS = [{"question": f"What is {number} + 1?", "answer": f"It is {number + 1}.\n#### {number + 1}"} for number in range(40)]


@pytest.fixture(autouse=True)
def hub_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is looked up anywhere, unless a test says otherwise."""

    def away(name: str, kind: str) -> str | None:
        raise HubAway

    monkeypatch.setattr("mathquarry.data.fetch.hub_names.fault_of", away)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with files as a user might have them."""
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS[:30]))
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS[30:]))
    (tmp_path / "other.jsonl").write_text('{"prompt": "1 + 1?", "target": "2"}\n')
    (tmp_path / "test.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    (tmp_path / "texts.jsonl").write_text('{"content": "some text"}\n')
    (tmp_path / "own.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    (tmp_path / "empty.jsonl").touch()
    return tmp_path


def plan(here: Path, *overrides: str, recipe: str = "tiny", until: str | None = None) -> PlannedRun:
    chosen = load_recipe(recipe, [part.replace("HERE", str(here)) for part in overrides])
    return planned_run(chosen, str(here / "store"), lambda run: run_pipeline(run, chosen), until)


def problems(train: str = "HERE/train.jsonl", test: str = "HERE/held.jsonl") -> str:
    return "problems.source=" + inline({"kind": "files", "train": [train] if train else [], "test": [test]})


WRONG: list[tuple[list[str], str]] = [
    # paths and packages
    ([problems(train="HERE/nowhere.jsonl")], "problems.source.train: HERE/nowhere.jsonl is missing"),
    ([problems(test="HERE/nowhere.jsonl")], "problems.source.test: HERE/nowhere.jsonl is missing"),
    (['problems.benchmarks=["HERE/nowhere"]'], "problems.benchmarks: HERE/nowhere is missing"),
    (['crawl.source={kind="files", warcs=["HERE/*.warc.gz"]}'], "crawl.source.warcs: HERE/*.warc.gz is missing"),
    (['curate.files=[{path="HERE/solutions.jsonl"}]'], "curate.files.path: HERE/solutions.jsonl is missing"),
    (["mine.annotations=HERE/domains.toml"], "mine.annotations: HERE/domains.toml is missing"),
    (["mine.seed_pages.path=HERE/seed.parquet"], "mine.seed_pages.path: HERE/seed.parquet is missing"),
    (["mine.tokenizer=HERE/tokenizer.json"], "mine.tokenizer: HERE/tokenizer.json is missing"),
    (['pretrain.mix=[{name="a", weight=1.0, path="HERE/a.jsonl"}]'], "pretrain.mix: HERE/a.jsonl is missing"),
    (['model={kind="pretrained", path="package:no_such_model"}'], "model.path: the package no_such_model is not installed"),
    (['model={kind="pretrained", path="HERE/model.gguf"}'], "model.path: HERE/model.gguf is missing"),
    # columns and contents
    ([problems(train="HERE/other.jsonl")], "problems.source.train: HERE/other.jsonl, line 1"),
    ([problems(train="HERE/empty.jsonl")], "problems.source.train: HERE/empty.jsonl has no problems"),
    ([problems(train="HERE/test.jsonl")], "problems.source.train: HERE/test.jsonl is named as a test split"),
    ([problems(train="cmath=HERE/train.jsonl")], "problems.source.train: cmath is a benchmark"),
    ([problems(train="gsm9k=train.jsonl")], "problems.source.train: gsm9k=train.jsonl: there is no problem set gsm9k"),
    ([problems(train="")], "problems.source.train is empty"),
    (["mine.seed_pages.path=HERE/texts.jsonl"], "mine.seed_pages: HERE/texts.jsonl has no column text, only content"),
    (["mine.labelled=HERE/texts.jsonl"], "mine.labelled: HERE/texts.jsonl has no column url"),
    (['pretrain.mix=[{name="a", weight=1.0, path="HERE/texts.jsonl"}]'], "pretrain.mix.a: HERE/texts.jsonl has no column text"),
    (['pretrain.held_out=[{name="a", path="HERE/texts.jsonl"}]'], "pretrain.held_out.a: HERE/texts.jsonl has no column text"),
    (['curate.files=[{path="HERE/other.jsonl", question="task", answer_from="boxed"}]'], "curate.files: HERE/other.jsonl"),
    # methods that make no sense
    (["grpo.rollout.temperature=0"], "grpo.rollout.temperature is 0"),
    (["grpo.group_size=1"], "grpo.group_size is 1"),
    (["grpo.paradigm.reward=rule", "grpo.supervision=process"], "grpo.supervision is `process`, but a rule gives one reward"),
    (["grpo.paradigm.advantage=preference"], "grpo.paradigm.advantage `preference` (DPO) needs reward `rule` and num_updates = 1"),
    (["grpo.paradigm.reward=none"], "grpo.paradigm.advantage `group` needs a reward"),
    (["reward.rollout.temperature=0"], "reward.rollout.temperature is 0"),
    (["rejection.enabled=true", "rejection.rollout.temperature=0"], "rejection.rollout.temperature is 0"),
    (
        ['refresh.data="rollouts"', "reward.supervision=process", "grpo.supervision=process", "grpo.format=tool"],
        "refresh.data is `rollouts` and reward.supervision is `process`, but grpo.format is `tool`",
    ),
    (
        ['refresh.data="rollouts"', "grpo.paradigm.data=examples", "grpo.paradigm.advantage=constant"],
        "refresh.data is `rollouts`, but grpo.paradigm.data is `examples`",
    ),
    (["model.hidden=130"], "model.hidden is 130"),
    (["start.policy=owner/name", "start.reward=owner/reward"], "start.reward is external"),
    # batches against data
    (
        [problems(), 'grpo.problem_sets=["gsm8k", "math"]'],
        "grpo.problem_sets names math, but the training problems are of gsm8k. Correct the name",
    ),
    (['reward.problem_sets=["gsm8k"]'], "reward.problem_sets names gsm8k, but the training problems are of generated."),
    (["pretrain.batch_tokens=64"], "pretrain.batch_tokens is 64, less than one row"),
    (["sft.batch_tokens=64"], "sft.batch_tokens is 64, less than one row"),
    (["reward.batch_tokens=64"], "reward.batch_tokens is 64, less than one row"),
    (["pretrain.total_tokens=4096"], "pretrain.total_tokens is 4096, less than one step"),
    ([problems(), "grpo.prompts_per_step=31"], "grpo.prompts_per_step is 31, but there are only 30 training questions"),
    (
        [
            'problems.source={kind="files", train=["HERE/train.jsonl", "own=HERE/own.jsonl"], test=["HERE/held.jsonl"], sets={own={}}}',
            'grpo.problem_sets=["own"]',
        ],
        "grpo.prompts_per_step is 32, but there are only 1 training questions",
    ),
    ([problems(), "sft.steps=2", "grpo.steps=200"], "grpo would go over 30 questions 427 times"),
    (["pretrain.total_tokens=10000000"], "pretrain would go over a corpus of 350,000 tokens 29 times"),
    (["reward.epochs=200"], "reward would go over 4,000 questions 200 times"),
]


@pytest.mark.parametrize(("overrides", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_input_is_refused_in_one_line(here: Path, overrides: list[str], said: str) -> None:
    faults = Preflight(plan(here, *overrides)).faults()
    named = [fault for fault in faults if fault.startswith(said.replace("HERE", str(here)))]
    assert len(named) == 1, faults
    assert "\n" not in named[0]


def test_all_wrong_inputs_are_counted_in_one_refusal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [*WRONG[2][0], *WRONG[4][0], *WRONG[19][0], *WRONG[20][0], *WRONG[31][0]]
    arguments = [part.replace("HERE", str(here)) for override in overrides for part in ("--set", override)]
    assert main(["run", "tiny", "--store", str(here / "store"), "--dry-run", *arguments]) == 1
    head, *lines = capsys.readouterr().err.splitlines()
    assert head == "mathquarry: recipe tiny cannot run:"
    assert len(lines) == 5
    assert not (here / "store" / "artifacts").exists()


KINDS: dict[str, tuple[list[str], str]] = {
    "a path": ([problems(train="HERE/nowhere.jsonl")], "HERE/nowhere.jsonl is missing"),
    "a package": (['model={kind="pretrained", path="package:no_such_model"}'], "the package no_such_model is not installed"),
    "a model of the hub": (["start.policy=owner/unknown"], "start.policy: owner/unknown is not on the hub"),
    "a set of the hub": ([problems(train="hf://owner/unknown:main:train")], "problems.source.train: owner/unknown is not on the hub"),
    "a column of problems": ([problems(train="HERE/other.jsonl")], "other.jsonl, line 1"),
    "a column of solutions": (['curate.files=[{path="HERE/other.jsonl", question="task", answer_from="boxed"}]'], "no column `task`"),
    "a column of texts": (["mine.seed_pages.path=HERE/texts.jsonl"], "has no column text, only content"),
    "temperature 0": (["grpo.rollout.temperature=0"], "grpo.rollout.temperature is 0"),
    "a group of 1": (["grpo.group_size=1"], "grpo.group_size is 1"),
    "process rewards of a rule": (["grpo.paradigm.reward=rule", "grpo.supervision=process"], "a rule gives one reward per completion"),
    "a preset and its contrary": (["grpo.preset=dapo", "grpo.kl=loss"], "preset `dapo` has kl = 'none', but you set 'loss'"),
    "a preset that is none": (["grpo.preset=dappo"], "known presets are dapo"),
    "a batch below a row": (["sft.batch_tokens=64"], "less than one row"),
    "a step above all questions": (
        [problems(), "sft.steps=2", "grpo.steps=2", "reward.epochs=3", "grpo.prompts_per_step=31"],
        "there are only 30 training questions",
    ),
    "far too many passes": (["pretrain.total_tokens=10000000"], "pretrain would go over a corpus of 350,000 tokens 29 times"),
    "a reward function": (['grpo.rewards=[{kind="function", function="no_such:f"}]'], "function no_such:f: there is no module `no_such`"),
    "a tracker that is not installed": (['trackers=["trackio"]'], "pretrain, sft, reward, grpo: trackers has trackio, whose package"),
    "too little memory": ([], "the model needs more than"),
    "too little disk": ([], "1.0 MB are free"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_wrong_input_stops_a_run_with_one_line_before_its_first_stage(
    here: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(name: str, kind: str) -> str | None:
        return f"{name} is not on the hub." if name == "owner/unknown" else None

    monkeypatch.setattr("mathquarry.data.fetch.hub_names.fault_of", fault)
    # What the tests' environment has or lacks must not decide this: trackio is not installed here, whatever else is.
    find_spec = util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "trackio" else find_spec(name, *more))
    monkeypatch.setattr("mathquarry.flows.preflight.machine.gpu_memories", list)
    monkeypatch.setattr("mathquarry.flows.preflight.machine.main_memory", lambda: 1e6 if kind == "too little memory" else 1e12)
    monkeypatch.setattr("mathquarry.flows.preflight.machine.free_disk", lambda folder: 1e6 if kind == "too little disk" else 1e12)
    monkeypatch.setattr("mathquarry.flows.cli.run.quieten", lambda home: None)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    overrides, said = KINDS[kind]
    arguments = [part.replace("HERE", str(here)) for override in overrides for part in ("--set", override)]
    assert main(["run", "tiny", "--store", str(here / "store"), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said.replace("HERE", str(here)) in line
    assert not list((here / "store").glob("artifacts/*"))


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_plan_and_a_dry_run_refuse_what_a_run_would(here: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dry-run"] if command == "run" else []
    assert main([command, "tiny", *arguments, "--store", str(here / "store"), "--set", "grpo.rollout.temperature=0"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mathquarry: recipe tiny: grpo.rollout.temperature is 0")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_that_generates_or_downloads_its_data_needs_nothing_here(here: Path, name: str) -> None:
    assert Preflight(plan(here, recipe=name)).faults() == []


def test_only_what_runs_is_looked_at(here: Path) -> None:
    wrong = [*WRONG[3][0], *WRONG[20][0]]
    assert len(Preflight(plan(here, *wrong)).faults()) == 2
    assert Preflight(plan(here, *wrong, until="curate")).faults() == []


def test_methods_of_a_comparison_are_looked_at_too(here: Path) -> None:
    from mathquarry.flows.experiments.compare import side_by_side

    recipe = load_recipe("tiny", ["grpo.group_size=1", 'compare.methods=["grpo+os"]', "compare.seeds=[0]"])
    planned = planned_run(recipe, str(here / "store"), lambda run: side_by_side(run, recipe, "methods"))
    assert [fault.partition(";")[0] for fault in Preflight(planned).faults()] == ["grpo.group_size is 1"]


def test_notes_say_how_often_each_stage_goes_over_its_data(here: Path) -> None:
    notes = Preflight(plan(here, problems(), "sft.steps=2", "reward.epochs=3", "grpo.steps=2", "grpo.prompts_per_step=15")).check()
    assert [note for note in notes if note.startswith("grpo")] == ["grpo: 2.00 passes over 30 questions"]
    assert [note.split(":")[0] for note in notes] == ["pretrain", "sft", "reward", "grpo"]


def test_supervision_that_differs_is_said_and_not_refused(here: Path) -> None:
    assert any("trained with outcome labels" in note for note in Preflight(plan(here, "grpo.supervision=process")).check())


@pytest.mark.parametrize(("name", "kind"), [("start.policy", "model"), ("problems.source", "dataset")])
def test_a_name_that_the_hub_does_not_have_is_refused(here: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def fault(name: str, kind: str) -> str | None:
        asked.append((name, kind))
        return f"{name} is not on the hub." if name == "owner/unknown" else None

    monkeypatch.setattr("mathquarry.data.fetch.hub_names.fault_of", fault)
    chosen = {
        "start.policy": ["start.policy=owner/unknown"],
        "problems.source": [problems(train="hf://owner/unknown:main:train", test="hf://owner/known:main:held")],
    }[name]
    assert [said for said in Preflight(plan(here, *chosen)).faults() if "owner" in said] == [
        f"{name}{'.train' if kind == 'dataset' else ''}: owner/unknown is not on the hub."
    ]
    assert set(asked) == {("owner/unknown", kind)} | ({("owner/known", kind)} if kind == "dataset" else set())


def test_a_hub_that_is_away_is_said_and_asked_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def away(*question: Any) -> str | None:
        asked.append(question)
        raise HubAway

    monkeypatch.setattr("mathquarry.data.fetch.hub_names.fault_of", away)
    notes = Preflight(
        plan(here, problems(train="hf://a/b:c:train", test="hf://a/d:c:held"), 'model={kind="pretrained", path="a/b"}')
    ).check()
    assert notes[-1].startswith("The hub is unreachable")
    assert len(asked) == 1


# This machine


def faults_here(here: Path, *overrides: str, recipe: str = "tiny") -> list[str]:
    return list(machine_faults(plan(here, *overrides, recipe=recipe)))


def test_a_small_recipe_fits(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.flows.preflight.machine.gpu_memories", list)
    assert faults_here(here) == []


def test_a_model_larger_than_the_memory_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.flows.preflight.machine.gpu_memories", list)
    monkeypatch.setattr("mathquarry.flows.preflight.machine.main_memory", lambda: 100e9)
    (said,) = [fault for fault in faults_here(here, recipe="paper-7b") if "memory" in fault]
    assert said.startswith("the model needs more than 1")
    assert "this machine has 100.0 GB" in said


def test_fewer_gpus_than_ranks_and_too_little_memory_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.flows.preflight.machine.gpu_memories", lambda: [24e9])
    assert faults_here(here) == []
    assert faults_here(here, "sft.ranks.processes=2") == ["sft needs 2 GPUs, but this machine has 1. Lower its ranks.processes."]
    ones = [f"{stage}.ranks={{processes=1}}" for stage in ("pretrain", "sft", "reward", "grpo", "evaluate")]
    assert any(fault.startswith("sft needs ") and "GiB per GPU" in fault for fault in faults_here(here, *ones, recipe="paper-7b"))


def test_a_full_disk_is_refused_before_it_is_full(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.flows.preflight.machine.free_disk", lambda folder: 1e6)
    assert any("1.0 MB are free" in fault for fault in faults_here(here))


def test_an_engine_that_is_not_installed_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.flows.preflight.machine.util.find_spec", lambda name: None)
    said = [fault for fault in faults_here(here, "grpo.rollout.engine=vllm", 'harness.tasks=["mmlu"]') if "not installed" in fault]
    assert sorted({fault.split()[0] for fault in said}) == ["grpo.rollout.engine", "harness.tasks"]
    with pytest.raises(MathQuarryError, match="grpo.rollout.engine is vllm"):
        check_here(plan(here, "grpo.rollout.engine=vllm"))
