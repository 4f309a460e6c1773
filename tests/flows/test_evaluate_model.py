"""Any model is scored on named sets into a folder: strictly and leniently, with standard errors, all answers and a report."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mathquarry.flows.__main__ import main
from tests.flows.small_store import make_store, write_policy

ROWS = [{"question": f"What is {n} + {n}?", "answer": f"It is {2 * n}.\n#### {2 * n}"} for n in range(1, 7)]
OWN = [{"prompt": row["question"], "target": row["answer"]} for row in ROWS]


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("evaluation")
    write_policy(room / "model")
    lines(room / "gsm8k-test.jsonl", ROWS)
    lines(room / "own.jsonl", OWN)
    return room


def evaluate(room: Path, out: Path, *more: str) -> int:
    sets = f"gsm8k={room / 'gsm8k-test.jsonl'},mine={room / 'own.jsonl'}"
    columns = ["--question", "prompt", "--answer", "target", "--answer-from", "hash"]
    quick = ["--questions", "4", "--max-tokens", "8", "-k", "2", "--store", str(room / "no-store")]
    return main(["evaluate", str(room / "model"), "--on", sets, *columns, *quick, "-o", str(out), *more])


def test_scores_answers_and_report_are_written_and_an_interrupted_evaluation_goes_on(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert evaluate(room, out) == 0
    printed = capsys.readouterr().out
    table = [line.split() for line in printed.splitlines() if line.startswith(("gsm8k", "mine"))]
    assert [row[:4] for row in table] == [[name, "cot", reading, "4"] for name in ("gsm8k", "mine") for reading in ("strict", "lenient")]
    assert "±" in printed
    assert "vllm serve" in printed
    for name in ("gsm8k", "mine"):
        scores = json.loads((out / name / "out" / "scores.json").read_text())
        assert {"greedy", "greedy_se", "lenient_greedy", "lenient_greedy_se", "pass@2", "maj@2"} <= scores.keys()
        answers = pq.read_table(out / name / "out" / "answers.parquet")
        assert answers.num_rows == 4 * 3
        assert set(answers["gold"].to_pylist()) == {"2", "4", "6", "8"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "gsm8k/out/answers.parquet" in page
    assert "Correct and wrong answers" in page
    chunk = next((out / "mine" / "scratch").glob("evaluate-*.parquet"))
    before = chunk.stat().st_mtime_ns
    assert evaluate(room, out) == 0
    assert chunk.stat().st_mtime_ns == before


def test_a_folder_of_another_evaluation_is_not_mixed_with_this_one(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert evaluate(room, out, "--seed", "1") == 0
    assert evaluate(room, out, "--seed", "2") == 1
    assert "holds another evaluation" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert evaluate(room, tmp_path / "mine") == 1
    assert "is not an evaluation" in capsys.readouterr().err


def test_an_artifact_is_evaluated_by_its_name(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_store(tmp_path / "store")
    sets = f"gsm8k={room / 'gsm8k-test.jsonl'}"
    more = ["--max-tokens", "4", "--questions", "2", "-o", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    assert main(["evaluate", "sft", "--on", sets, *more]) == 0
    assert "mathquarry export sft DIR" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["model"] == made["sft"].key


@pytest.mark.parametrize(
    ("on", "more", "message"),
    [
        ("nonsense", [], "there is no problem set nonsense"),
        ("gsm8k=nowhere.jsonl", [], "nowhere.jsonl does not exist"),
        ("ocw", [], "ocw has no test split on the hub"),
        ("OWN", [], "write SET or NAME=FILE"),
        ("../up=OWN", [], "write SET or NAME=FILE"),
        ("", [], "write SET or NAME=FILE"),
        ("gsm8k=GSM,gsm8k=GSM", [], "has gsm8k twice"),
        ("mine=OWN", [], "there is no column `question`; the row has prompt, target"),
        ("mine=OWN", ["--question", "prompt", "--answer", "target"], 'Set answer_from of set mine to "hash"'),
        ("gsm8k=GSM", ["-k", "0"], "-k is 0"),
        ("gsm8k=GSM", ["--questions", "0"], "--questions is 0"),
        ("gsm8k=GSM", ["--temperature", "0"], "--temperature is 0.0"),
        ("gsm8k=GSM", ["--max-tokens", "-3"], "--max-tokens is -3"),
        ("gsm8k=GSM", ["--prompts", "own"], "has no chat template"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_before_a_model_is_loaded(
    room: Path, tmp_path: Path, on: str, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    on = on.replace("OWN", str(room / "own.jsonl")).replace("GSM", str(room / "gsm8k-test.jsonl"))
    assert main(["evaluate", str(room / "model"), "--on", on, "-o", str(tmp_path / "out"), *more]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "report.html").exists()
