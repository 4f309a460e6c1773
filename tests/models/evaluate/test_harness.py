"""Benchmarks of lm-evaluation-harness on local files: scores, samples, resuming, and no code outside the sandbox."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.interface import Result
from mathquarry.data.store.store import Identity, Store
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.evaluate import harness as stage
from mathquarry.models.evaluate.config import HarnessConfig
from mathquarry.models.evaluate.harness import CODE_TASKS, passes, run_harness
from mathquarry.models.policy.checkpoint import new_policy, save
from mathquarry.models.policy.config import ScratchModel
from mathquarry.models.policy.tokenizer import train_tokenizer

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra lm-eval)")
pytestmark = pytest.mark.slow  # the harness reads the definitions of all its tasks each time

QUESTIONS = [{"question": f"{number}+1=", "choices": [str(number + 1), str(number + 5)], "answer": 0} for number in range(6)]
CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: questions.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
WRITTEN = """
task: mq_written
dataset_path: json
dataset_kwargs:
  data_files:
    test: questions.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 4
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> HarnessConfig:
    """Two tasks, a group of them, and one that is written out in full, on a local file."""
    folder = tmp_path_factory.mktemp("harness")
    data, definitions = folder / "data", folder / "definitions"
    data.mkdir()
    definitions.mkdir()
    (data / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    for name in ("mq_one", "mq_two"):
        (definitions / f"{name}.yaml").write_text(CHOICE.format(name=name))
    (definitions / "mq_written.yaml").write_text(WRITTEN)
    members = "task: [mq_one, mq_two]\naggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n"
    (definitions / "mq_both.yaml").write_text(f"group: mq_both\n{members}")
    return HarnessConfig(tasks=["mq_both", "mq_written"], data=str(data), definitions=str(definitions), precision="float32")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = train_tokenizer(["0+1=1", "5+4=9 23678"] * 4, 270)
    save(new_policy(ScratchModel(layers=1, hidden=16, heads=2, intermediate=16), tokenizer, seed=0), tokenizer, folder, "short")
    return folder


def test_scores_of_local_benchmarks_are_kept_with_every_sample_and_reach_the_ledger(
    config: HarnessConfig, policy: Path, tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    identity = Identity(stage="harness", version=1, config={"harness": config.identity()}, inputs={}, sources=())
    artifact = store.build(identity, lambda workspace: run_harness(config, policy, workspace))
    rows = pq.read_table(Path(artifact.path) / "samples.parquet").to_pylist()
    assert [row["task"] for row in rows] == ["mq_one"] * 6 + ["mq_two"] * 6 + ["mq_written"] * 6
    assert rows[1]["prompt"] == "1+1="
    right = [json.loads(row["metrics"])["acc"] for row in rows[:6]]
    summary = artifact.summary
    assert summary["mq_both acc"] == pytest.approx(sum(right) / 6)
    assert 0 <= summary["mq_written exact_match"] <= 1
    assert (summary["mq_written questions"], "mq_both acc_se" in summary) == (6, True)
    results = json.loads((Path(artifact.path) / "results.json").read_text())
    assert set(results) == {"mq_both", "mq_written"}
    assert results["mq_both"]["results"]["mq_one"]["acc,none"] == pytest.approx(summary["mq_both acc"], abs=1e-6)
    ledger = Ledger(store)
    ledger.record(artifact)
    (metric,) = ledger.query("select value from metrics where name = 'mq_two acc'")
    assert metric["value"] == summary["mq_both acc"]


def test_an_interrupted_run_does_not_ask_again_what_is_done(
    config: HarnessConfig, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, asked = stage._evaluate, []

    def fail_on_the_second(name: str, *arguments: Any) -> dict[str, Any]:
        asked.append(name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return evaluate(name, *arguments)

    monkeypatch.setattr(stage, "_evaluate", fail_on_the_second)
    workspace = Workspace.at(tmp_path / "space")
    with pytest.raises(KeyboardInterrupt):
        run_harness(config, policy, workspace)
    assert Path.cwd() != Path(config.data or "")
    run_harness(config, policy, workspace)
    assert asked == ["mq_both", "mq_written", "mq_written"]


def test_what_is_not_there_or_may_not_run_is_named_before_any_work(config: HarnessConfig, policy: Path, tmp_path: Path) -> None:
    for tasks, message in [
        (["mq_nothing"], "has no benchmark mq_nothing"),
        (["mmlu"], "mmlu_.* needs a copy of the data set cais/mmlu at .*data/cais/mmlu"),
        (["humaneval"], "needs a copy of the data set openai/openai_humaneval"),
        (["humaneval_instruct"], "humaneval_instruct would run .* refused. humaneval and mbpp can run in the sandbox"),
        (["mbpp_plus"], "refused"),
    ]:
        with pytest.raises(MathQuarryError, match=message):
            run_harness(config.model_copy(update={"tasks": tasks}), policy, Workspace.at(tmp_path / "space"))


def test_a_data_set_with_a_plain_name_is_not_fetched_either(config: HarnessConfig, tmp_path: Path) -> None:
    from lm_eval.tasks._index import Entry, Kind

    for dataset in ("plain", "json"):
        (tmp_path / f"{dataset}.yaml").write_text(f"task: {dataset}\ndataset_path: {dataset}\n")
    index = {name: Entry(name, Kind.TASK, tmp_path / f"{name}.yaml") for name in ("plain", "json")}
    stage._check("json", index, config)
    with pytest.raises(MathQuarryError, match="plain needs a copy of the data set plain at"):
        stage._check("plain", index, config)


def test_the_harness_own_way_of_running_code_is_refused(
    config: HarnessConfig, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    with pytest.raises(MathQuarryError, match="HF_ALLOW_CODE_EVAL"):
        run_harness(config, policy, Workspace.at(tmp_path / "space"))


HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
}
MBPP = [
    {"task_id": number, "text": f"Write f that adds {number}.", "code": "pass", "test_list": [f"assert f(1) == {1 + number}"] * 3}
    for number in (1, 2, 3, 4, 11)
]


class Told:
    """A sandbox that records programs and lets those with `return 2 * x` reach their last line."""

    def __init__(self) -> None:
        self.programs: list[str] = []

    def run(self, program: str) -> Result:
        self.programs.append(program)
        word = program.rsplit("'", 2)[1].removeprefix("\\n")
        return Result(stdout=f"\n{word}\n" if "2 * x" in program else "", error=None if "2 * x" in program else "AssertionError: ")

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_humaneval_and_mbpp_ask_as_the_harness_does_and_run_in_the_sandbox(
    config: HarnessConfig, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, split, documents in [
        ("openai/openai_humaneval", "test", [HUMANEVAL]),
        ("google-research-datasets/mbpp", "prompt", MBPP[:4]),
        ("google-research-datasets/mbpp", "test", MBPP[4:]),
    ]:
        place = Path(config.data or "") / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{split}.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
        name, there = ("full", ("prompt", "test")) if "mbpp" in folder else ("default", ("test",))
        splits = "".join(f"      - split: {part}\n        path: {part}.jsonl\n" for part in there)
        (place / "README.md").write_text(f"---\nconfigs:\n  - config_name: {name}\n    data_files:\n{splits}---\n")
    sandbox = Told()
    monkeypatch.setattr(stage, "make_sandbox", lambda _: sandbox)
    workspace = Workspace.at(tmp_path / "space")
    both = config.model_copy(update={"tasks": ["humaneval", "mbpp"]})
    with pytest.raises(MathQuarryError, match=r"humaneval allows answers of 1024 tokens.* context is 1024\. Lower harness\.max_tokens"):
        run_harness(both, policy, workspace)
    summary = run_harness(both.model_copy(update={"max_tokens": 6}), policy, workspace)
    assert (summary["humaneval pass@1"], summary["mbpp pass@1"], summary["mbpp questions"]) == (0.0, 0.0, 1)
    humaneval, mbpp = pq.read_table(workspace.out / "samples.parquet").to_pylist()
    assert humaneval["prompt"] == HUMANEVAL["prompt"]
    assert [f"adds {number}." in mbpp["prompt"] for number in (1, 2, 3, 4, 11)] == [False, True, True, True, True]
    assert sandbox.programs[0].startswith(HUMANEVAL["prompt"])
    assert "check(double)\nprint(" in sandbox.programs[0]
    assert sandbox.programs[1].count("assert f(1) == 12") == 3


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_a_program_passes_only_when_it_reaches_its_very_end() -> None:
    from tests.data.programs.conftest import start

    with start("local") as sandbox:
        passed = {
            body: passes(sandbox, CODE_TASKS["humaneval"](HUMANEVAL, body))
            for body in (
                "    return 2 * x\n",
                "    return x\n",
                "    import os; os._exit(0)\n",
                "    raise SystemExit(0)\n",
                "    while 1: pass\n",
            )
        }
    assert list(passed.values()) == [True, False, False, False, False]


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_the_solutions_of_humaneval_pass_in_the_sandbox_and_nothing_passes_without_one(shared_data: Path) -> None:
    from tests.data.programs.conftest import start

    with gzip.open(shared_data / "benchmarks" / "humaneval.jsonl.gz", "rt") as lines:
        documents = [json.loads(line) for line in lines][::4]
    program = CODE_TASKS["humaneval"]
    with start("local") as sandbox:
        failed = [document["task_id"] for document in documents if not passes(sandbox, program(document, document["canonical_solution"]))]
        passed = [document["task_id"] for document in documents if passes(sandbox, program(document, "    pass\n"))]
    assert (len(documents), failed, passed) == (41, [], [])


def test_arithmetic_is_no_sandbox_for_python() -> None:
    from mathquarry.data.programs.sandbox import make_sandbox

    with make_sandbox(ProgramsConfig(sandbox="arithmetic")) as sandbox:
        assert not passes(sandbox, CODE_TASKS["humaneval"](HUMANEVAL, "    return 2 * x\n"))
