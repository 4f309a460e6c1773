"""Problem files: GSM8K, MATH, benchmarks, the hub's loader, and what is refused."""

import gzip
import json

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems import benchmark, gsm8k, math
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import GeneratedProblems, ProblemFiles, ProblemsConfig
from mathquarry.data.problems.problem import Problem, problems_of, read_problems
from mathquarry.data.problems.records import set_name
from mathquarry.data.store.workspace import Workspace


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def word_problem(number):
    return {
        "question": f"What is {number} and {number}?",
        "answer": f"It is <<{number}+{number}={2 * number}>>{2 * number}.\n#### {2 * number}",
    }


def files(train, test, **more):
    return ProblemsConfig(source=ProblemFiles(train=train, test=test, **more))


def test_gsm8k_answer_follows_the_last_mark_without_thousands_commas(tmp_path):
    path = write(tmp_path / "some-train.jsonl", [{"question": "How far? ", "answer": "Far: <<1*1000=1000>>1,000 #### no\n#### 1,000"}])
    (problem,) = gsm8k.load(path)
    assert (problem.id, problem.question, problem.answer, problem.source) == ("some-train-1", "How far?", "1000", "gsm8k")
    assert problem.solution == "Far: <<1*1000=1000>>1,000 #### no"


def test_math_answer_is_the_last_box_with_its_inner_braces(tmp_path):
    solution = r"First \boxed{1}, then \boxed{\frac{3}{\left\{4\right\}}}."
    (problem,) = math.load(write(tmp_path / "m.jsonl", [{"problem": "q", "solution": solution}]))
    assert problem.answer == r"\frac{3}{\left\{4\right\}}"


def test_math_takes_an_unbraced_box_and_leaves_an_empty_one_without_answer(tmp_path):
    records = [{"problem": "q", "solution": s} for s in (r"so $\boxed 2$.", r"there are $\boxed{}$ primes")]
    assert [problem.answer for problem in math.load(write(tmp_path / "m.jsonl", records))] == ["2", ""]


@pytest.mark.parametrize("load", [gsm8k.load, math.load, benchmark.load])
def test_every_reader_names_file_and_line_of_a_bad_record(tmp_path, load):
    path = tmp_path / "bad.jsonl"
    good = {"question": "q", "problem": "q", "answer": "#### 1", "solution": r"\boxed{1}"}
    for bad, message in [("{oops", "is not JSON"), ("[1]", "is not a JSON object"), ("{}", "no (text|question)"), ('{"question": 5}', "")]:
        path.write_text(json.dumps(good) + "\n\n" + bad + "\n", encoding="utf-8")
        if load is benchmark.load and not message:
            continue
        with pytest.raises(MathQuarryError, match=rf"bad\.jsonl, line 3.*{message}"):
            load(str(path))


def test_a_missing_answer_names_file_and_line(tmp_path):
    with pytest.raises(MathQuarryError, match="line 1: no answer after `####`"):
        gsm8k.load(write(tmp_path / "a.jsonl", [{"question": "q", "answer": "It is 3."}]))
    with pytest.raises(MathQuarryError, match="line 1: no answer in"):
        math.load(write(tmp_path / "b.jsonl", [{"problem": "q", "solution": "It is 3."}]))


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_an_error(tmp_path, content):
    path = tmp_path / "none.jsonl"
    path.write_bytes(content)
    with pytest.raises(MathQuarryError, match=r"none\.jsonl has no problems"):
        gsm8k.load(str(path))


def test_a_missing_file_a_folder_and_a_damaged_archive_are_errors_that_name_the_file(tmp_path):
    with pytest.raises(MathQuarryError, match=r"gone\.jsonl does not exist"):
        gsm8k.load(str(tmp_path / "gone.jsonl"))
    with pytest.raises(MathQuarryError, match="cannot read"):
        gsm8k.load(str(tmp_path))
    packed = gzip.compress("".join(json.dumps(word_problem(n)) + "\n" for n in range(1, 500)).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(MathQuarryError, match=r"cut\.jsonl\.gz is damaged after"):
        gsm8k.load(str(tmp_path / "cut.jsonl.gz"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe9"}\n')
    with pytest.raises(MathQuarryError, match=r"latin\.jsonl is not UTF-8. Set problems.encoding"):
        gsm8k.load(str(tmp_path / "latin.jsonl"))


def test_packed_and_plain_files_read_alike(tmp_path):
    plain = write(tmp_path / "x.jsonl", [word_problem(n) for n in range(1, 4)])
    (tmp_path / "packed").mkdir()
    packed = tmp_path / "packed" / "x.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "x.jsonl").read_bytes()))
    assert gsm8k.load(plain) == gsm8k.load(str(packed))


@pytest.mark.slow  # importing `datasets` takes seconds
def test_a_hub_path_is_read_by_the_datasets_library(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "words"
    folder.mkdir()
    write(folder / "train.jsonl", [word_problem(n) for n in range(1, 4)])
    problems = gsm8k.load(f"hf://{folder}::train")
    assert [problem.answer for problem in problems] == ["2", "4", "6"]
    assert problems[0].id == "words-train-1"
    with pytest.raises(MathQuarryError, match="cannot load hf://"):
        gsm8k.load(f"hf://{folder}::nosuchsplit")


def test_a_malformed_hub_path_is_refused():
    with pytest.raises(MathQuarryError, match="hf://owner/name:config:split"):
        gsm8k.load("hf://openai/gsm8k")


def test_benchmarks_of_many_forms_give_question_and_answer(tmp_path):
    records = [
        {"question": "1+1?", "golden": "2"},
        {"problem": "x?", "solution": "so 3", "answer": "3"},
        {"messages": [{"role": "user", "content": "一加一？"}, {"role": "assistant", "content": ""}], "answer": "2"},
        {"informal_statement": "Show it.", "informal_proof": "Clear."},
        {"question": "Which?", "Answer": ["A", "B"], "answer": None},
    ]
    problems = benchmark.load(write(tmp_path / "mix.jsonl", records))
    assert [(problem.question, problem.answer) for problem in problems] == [
        ("1+1?", "2"),
        ("x?", "3"),
        ("一加一？", "2"),
        ("Show it.", ""),
        ("Which?", "A B"),
    ]
    assert [problem.language for problem in problems] == ["en", "en", "zh", "en", "en"]
    assert problems[0].source == "mix"


@pytest.mark.parametrize("name", ["gsm8k-test.jsonl", "test.jsonl.gz", "MathTest.jsonl", "math_test_v2.jsonl", "test-00000.jsonl"])
def test_training_on_a_file_named_as_a_test_split_is_refused(tmp_path, name):
    with pytest.raises(MathQuarryError, match="named as a test split"):
        build_problems(files([str(tmp_path / name)], ["held.jsonl"]), Workspace.at(tmp_path))
    with pytest.raises(MathQuarryError, match="named as a test split"):
        build_problems(files(["hf://openai/gsm8k:main:test"], ["held.jsonl"]), Workspace.at(tmp_path))


def test_a_name_that_merely_contains_the_letters_is_allowed(tmp_path):
    train = write(tmp_path / "latest-contest.jsonl", [word_problem(1)])
    test = write(tmp_path / "held.jsonl", [word_problem(2)])
    assert build_problems(files([train], [test]), Workspace.at(tmp_path / "w"))["train"] == 1


def test_training_questions_that_are_held_out_or_in_a_benchmark_are_dropped_and_counted(tmp_path):
    train = write(tmp_path / "a.jsonl", [word_problem(n) for n in range(1, 11)])
    held = word_problem(3)
    held["question"] = "  what IS 3\nand 3?"
    test = write(tmp_path / "b.jsonl", [held, word_problem(50)])
    other = write(tmp_path / "c.jsonl", [{"question": "What is 7 and 7?", "answer": "14"}])
    config = files([train], [test]).model_copy(update={"benchmarks": [other]})
    workspace = Workspace.at(tmp_path / "w")
    summary = build_problems(config, workspace)
    assert (summary["train"], summary["dropped_held-out"], summary["benchmarks"]) == (8, 2, 1)
    assert [problem.id for problem in read_problems(workspace.out / "train.jsonl")] == [f"a-{n}" for n in (1, 2, 4, 5, 6, 8, 9, 10)]
    dropped = [json.loads(line) for line in (workspace.out / "dropped.jsonl").read_text().splitlines()]
    assert dropped == [{"id": f"a-{n}", "split": "train", "reason": "held-out"} for n in (3, 7)]


def test_problems_are_chosen_by_the_names_of_their_sets():
    problems = [Problem(f"p{number}", "?", "1", source=source) for number, source in enumerate(["gsm8k", "math", "lila-ood", "math"])]
    assert problems_of(problems, []) == problems
    assert problems_of(problems, ["math", "gsm8k"]) == [problems[0], problems[1], problems[3]]
    with pytest.raises(MathQuarryError, match="problem_sets names cmath, but the training problems are of gsm8k, lila-ood, math"):
        problems_of(problems, ["math", "cmath"])


def test_training_questions_that_are_all_held_out_are_an_error(tmp_path):
    train = write(tmp_path / "a.jsonl", [word_problem(1)])
    test = write(tmp_path / "b.jsonl", [word_problem(1)])
    with pytest.raises(MathQuarryError, match=r"problems\.source\.train: none of its 1 problems"):
        build_problems(files([train], [test]), Workspace.at(tmp_path / "w"))


def test_limits_take_a_seeded_sample_and_the_same_one_again(tmp_path):
    train = write(tmp_path / "a.jsonl", [word_problem(n) for n in range(1, 60)])
    test = write(tmp_path / "b.jsonl", [word_problem(n) for n in range(100, 160)])
    config = files([train], [test], train_limit=5, test_limit=4)
    outs = []
    for number, seed in enumerate((0, 0, 1)):
        workspace = Workspace.at(tmp_path / f"w{number}")
        build_problems(config.model_copy(update={"seed": seed}), workspace)
        outs.append((workspace.out / "train.jsonl").read_bytes())
        assert len(read_problems(workspace.out / "test.jsonl")) == 4
    assert outs[0] == outs[1] != outs[2]


def test_two_files_of_one_name_are_refused_since_ids_come_from_names(tmp_path):
    train = write(tmp_path / "a.jsonl", [word_problem(1)])
    with pytest.raises(MathQuarryError, match="both named a"):
        build_problems(files([train, train], [train]), Workspace.at(tmp_path / "w"))


def test_no_file_at_all_is_refused(tmp_path):
    with pytest.raises(MathQuarryError, match=r"problems\.source\.test is empty"):
        build_problems(files(["a.jsonl"], []), Workspace.at(tmp_path))


def test_set_names_leave_out_folder_and_extension():
    assert set_name("/x.y/gsm8k-train.jsonl.gz") == "gsm8k-train"
    assert set_name("hf://openai/gsm8k:main:train") == "gsm8k-main-train"
    assert set_name("hf://owner/math::train") == "math-train"


def test_the_generated_stage_writes_every_file_and_the_same_bytes_again(tmp_path):
    config = ProblemsConfig(source=GeneratedProblems(train=40, test=20))
    workspaces = [Workspace.at(tmp_path / name) for name in "ab"]
    assert [build_problems(config, workspace)["train"] for workspace in workspaces] == [40, 40]
    for name in ("train.jsonl", "test.jsonl", "benchmarks.jsonl", "dropped.jsonl"):
        assert (workspaces[0].out / name).read_bytes() == (workspaces[1].out / name).read_bytes()


def test_the_published_files_read_whole(shared_data, tmp_path):
    folder = shared_data / "problems"
    for dataset, train, test in (("gsm8k", 7473, 1319), ("math", 7497, 5000)):
        config = files([str(folder / f"{dataset}-train.jsonl.gz")], [str(folder / f"{dataset}-test.jsonl.gz")], dataset=dataset)
        summary = build_problems(config, Workspace.at(tmp_path / dataset))
        assert (summary["train"], summary["test"]) == (train, test)
    # Two training problems of MATH box nothing, and one of its questions is in its test split as well.
    assert (summary["dropped_no-answer"], summary["dropped_held-out"]) == (2, 1)


def test_every_shared_benchmark_reads(shared_data):
    paths = sorted((shared_data / "benchmarks").glob("*.jsonl.gz"))
    assert len(paths) == 10
    for path in paths:
        problems = benchmark.load(str(path))
        assert all(problem.question for problem in problems), path


HOSTILE = {
    "half a surrogate pair": '{"question": "x \\ud800 y", "answer": "a\\n#### 2"}',
    "half a pair in the answer": '{"question": "x", "answer": "a\\n#### \\udfff"}',
    "half a pair in a name": '{"question": "x", "answer": "#### 2", "\\ud800": 1}',
    "half a pair, deep down": '{"question": "x", "answer": "#### 2", "more": [{"a": ["\\udc00"]}]}',
    "brackets": "[" * 100_000,
    "a deep object": '{"question": ' + "[" * 3000 + "]" * 3000 + "}",
    "just deep enough to be read": '{"question": "q", "answer": "#### 2", "more": ' + "[" * 400 + "]" * 400 + "}",
    "5,000 digits": '{"question": "q", "answer": ' + "9" * 5000 + "}",
    "5,000 digits, negative, in a field that is not used": '{"question": "q", "answer": "#### 2", "id": -' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_record_that_cannot_be_used_is_dropped_and_counted(tmp_path, line):
    good = [word_problem(number) for number in (1, 2)]
    paths = [write(tmp_path / f"{name}.jsonl", [problem]) for name, problem in zip(("train", "test"), good, strict=True)]
    for path in [*paths, str(tmp_path / "benchmark.jsonl")]:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    config = files(paths[:1], paths[1:]).model_copy(update={"benchmarks": [str(tmp_path / "benchmark.jsonl")]})
    workspace = Workspace.at(tmp_path / "out")
    summary = build_problems(config, workspace)
    assert (summary["train"], summary["test"], summary["benchmarks"]) == (1, 1, 0)
    assert summary["dropped_unreadable"] == 3
    dropped = [json.loads(record) for record in (workspace.out / "dropped.jsonl").read_text().splitlines()]
    assert {(record["id"], record["split"], record["reason"]) for record in dropped} == {
        ("train-2", "train", "unreadable"),
        ("test-2", "test", "unreadable"),
        ("benchmark-1", "benchmarks", "unreadable"),
    }


def test_a_json_document_that_is_too_deep_is_one_clear_error(tmp_path):
    (tmp_path / "train.json").write_text("[" * 100_000)
    with pytest.raises(MathQuarryError, match="train.json, from line 1 on, is nested too deeply"):
        gsm8k.load(str(tmp_path / "train.json"))


def test_a_hub_name_may_be_pinned_to_a_revision(monkeypatch):
    """Tests have no hub, so they check the library's request."""
    import datasets

    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: asked.append((names, options)) or [word_problem(1)])
    for path in ("hf://openai/gsm8k@cc7b047:main:train", "hf://openai/gsm8k:main:train"):
        assert gsm8k.load(path)[0].id == "gsm8k-main-train-1"
    assert asked == [(("openai/gsm8k", "main"), {"split": "train", "revision": revision}) for revision in ("cc7b047", None)]
