"""Each problem set reads its published form, from a file and through `datasets`; benchmarks cannot be trained on."""

import json

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import ProblemFiles, ProblemsConfig
from mathquarry.data.problems.registry import DATASETS, find
from mathquarry.data.store.workspace import Workspace

FORMS = {
    "gsm8k": ({"question": "1+1?", "answer": "It is <<1+1=2>>2.\n#### 2"}, "2"),
    "math": ({"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{2}$."}, "2"),
    "cmath": ({"grade": 1, "question": "一加一？", "golden": "2", "reasoning_step": 1, "num_digits": 1}, "2"),
    "mgsm-zh": ({"question": "一加一？", "answer": None, "answer_number": 2, "equation_solution": None}, "2"),
    "gaokao-mathqa": ({"passage": None, "question": "选 ($\\quad$)\\\\\n", "options": ["(A)1", "(B)2"], "label": "B", "answer": None}, "B"),
    "gaokao-mathcloze": ({"passage": None, "question": "填 ($\\quad$)", "options": None, "label": None, "answer": "$5$;$10$"}, "$5$;$10$"),
    "sat": ({"id": "0", "question": "1+1?", "options": "A) 1 B) $2$ C) 3 D) 4", "Answer": "B"}, "B"),
    "ocw": ({"problem": "angle?", "solution": "s", "answer": "np.arcsin(10/13)", "id": 0}, r"\arcsin(10/13)"),
    "mmlu-stem": ({"question": "1+1?", "options": ["1", "2", "3", "4"], "answer": "B", "topic": "t", "id": 0}, "B"),
    "math23k": (
        {"id": "1", "original_text": "多少？", "segmented_text": "多少 ？", "equation": "x=1+1", "ans": "3((1)/(2))"},
        r"3\frac{1}{2}",
    ),
    "lila-ood": ({"input": "1+1?", "output_program": "print(2)", "output_answer": "2", "split": "train", "dataset": "d"}, "2"),
    "mathinstruct": ({"source": "s", "instruction": "1+1?", "output": "It is two.\nThe answer is 2"}, "2"),
    "cn-k12": ({"source": "cn_k12", "problem": "1+1?", "solution": r"It is $\boxed{2}$.", "messages": []}, "2"),
}
OTHER_FORMS = [
    ("mgsm-zh", {"messages": [{"role": "user", "content": "一加一？"}, {"role": "assistant", "content": ""}], "answer": "1,002"}, "1002"),
    ("gaokao-mathqa", {"query": "问题：选\n选项：(A)1 (B)2", "choices": ["(A)1", "(B)2"], "gold": [1]}, "B"),
    ("gaokao-mathcloze", {"query": "问题：填", "answer": "3"}, "3"),
    ("gaokao-mathqa", {"question": "选", "options": ["(A)1", "(B)2", "(C)3"], "label": "C A"}, "AC"),
    ("mmlu-stem", {"question": "1+1?", "choices": ["1", "2", "3", "4"], "answer": 1, "subject": "s"}, "B"),
    ("mathinstruct", {"source": "s", "instruction": "How many?", "output": "x = 3\ny = x * 2\nif y:\n    print(y)"}, ""),
    ("mathinstruct", {"source": "s", "instruction": "1+1? Please write a program to solve it.", "output": "print(1+1)"}, ""),
]
BENCHMARKS = ["cmath", "mgsm-zh", "gaokao-mathqa", "gaokao-mathcloze", "sat", "ocw", "mmlu-stem"]


def write(path, *records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_every_problem_set_of_the_paper_is_there():
    assert set(FORMS) == set(DATASETS)


@pytest.mark.parametrize(("name", "record", "answer"), [*((name, *form) for name, form in FORMS.items()), *OTHER_FORMS])
def test_a_set_reads_its_published_form(tmp_path, name, record, answer):
    (problem,) = DATASETS[name].load(write(tmp_path / "set.jsonl", record))
    assert problem.answer == answer
    assert problem.question
    assert "\\\\" not in problem.question
    assert problem.source == name
    assert problem.id == "set-1"


def test_options_stand_below_the_question_one_a_line(tmp_path):
    (problem,) = DATASETS["sat"].load(write(tmp_path / "s.jsonl", FORMS["sat"][0]))
    assert problem.question == "1+1?\n(A) 1\n(B) $2$\n(C) 3\n(D) 4"


@pytest.mark.parametrize("name", list(FORMS))
def test_a_bad_record_names_file_and_line(tmp_path, name):
    good, _ = FORMS[name]
    bad = {"source": "cn_k12"}
    with pytest.raises(MathQuarryError, match=r"bad\.jsonl, line 2: no "):
        DATASETS[name].load(write(tmp_path / "bad.jsonl", good, bad))


def test_a_label_that_names_no_option_is_an_error(tmp_path):
    for label in ("E", "", 7):
        with pytest.raises(MathQuarryError, match=r"line 1: .* is not one of the 4 options"):
            DATASETS["mmlu-stem"].load(write(tmp_path / "m.jsonl", FORMS["mmlu-stem"][0] | {"answer": label}))


def test_json_objects_one_after_the_other_and_in_a_list_are_read(tmp_path):
    records = [FORMS["math23k"][0] | {"ans": str(n)} for n in range(3)]
    (tmp_path / "a.json").write_text("\n".join(json.dumps(record, indent=2) for record in records))
    (tmp_path / "b.json").write_text(json.dumps(records))
    for name in "ab":
        assert [problem.answer for problem in DATASETS["math23k"].load(str(tmp_path / f"{name}.json"))] == ["0", "1", "2"]
    (tmp_path / "c.json").write_text(json.dumps(records[0], indent=2) + "\n{oops")
    with pytest.raises(MathQuarryError, match=r"c\.json, line 8 is not JSON"):
        DATASETS["math23k"].load(str(tmp_path / "c.json"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_cannot_be_trained_on_whatever_its_file_is_called(tmp_path, name):
    path = write(tmp_path / "innocent.jsonl", FORMS[name][0])
    with pytest.raises(MathQuarryError, match="for scores only"):
        DATASETS[name].training(path)
    gsm8k = write(tmp_path / "g.jsonl", FORMS["gsm8k"][0])
    source = ProblemFiles(train=[gsm8k, f"{name}={path}"], test=[f"{name}={path}"])
    with pytest.raises(MathQuarryError, match="for scores only"):
        build_problems(ProblemsConfig(source=source), Workspace.at(tmp_path / "w"))


def test_a_test_split_cannot_be_trained_on(tmp_path):
    with pytest.raises(MathQuarryError, match="named as a test split"):
        DATASETS["math23k"].training(write(tmp_path / "math23k-test.jsonl", FORMS["math23k"][0]))
    with pytest.raises(MathQuarryError, match="named as a test split"):
        DATASETS["gsm8k"].training("hf://openai/gsm8k:main:test")


MIXED = ProblemFiles(dataset="math", train=["a"], test=["b"])


def test_a_recipe_mixes_sets_and_names_the_hub(tmp_path):
    assert find("x.jsonl", MIXED, train=True) == (DATASETS["math"], "x.jsonl")
    assert find("gsm8k=a=b.jsonl", MIXED, train=True) == (DATASETS["gsm8k"], "a=b.jsonl")
    assert find("dir.1/a=b.jsonl", MIXED, train=True) == (DATASETS["math"], "dir.1/a=b.jsonl")
    assert find("gsm8k=hub", MIXED, train=True)[1] == "hf://openai/gsm8k:main:train"
    assert find("cmath=hub", MIXED, train=False)[1] == "hf://weitianwen/cmath::test"
    with pytest.raises(MathQuarryError, match="no training split on the hub"):
        find("cmath=hub", MIXED, train=True)
    with pytest.raises(MathQuarryError, match="there is no problem set gsm"):
        find("gsm=hub", MIXED, train=True)


def test_train_and_test_of_different_sets_make_one_artifact(tmp_path):
    train = [write(tmp_path / "g.jsonl", FORMS["gsm8k"][0]), "math=" + write(tmp_path / "m.jsonl", FORMS["math"][0] | {"problem": "2-1?"})]
    test = ["ocw=" + write(tmp_path / "o.jsonl", FORMS["ocw"][0]), "sat=" + write(tmp_path / "s.jsonl", FORMS["sat"][0])]
    workspace = Workspace.at(tmp_path / "w")
    counts = build_problems(ProblemsConfig(source=ProblemFiles(train=train, test=test)), workspace)
    assert (counts["train"], counts["test"]) == (2, 2)
    tolerances = [json.loads(line)["tolerance"] for line in (workspace.out / "test.jsonl").read_text().splitlines()]
    assert tolerances == [0.01, 0.0]


@pytest.mark.slow  # `datasets` takes seconds for each set
def test_every_set_is_read_through_the_datasets_library_as_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name, (record, answer) in FORMS.items():
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "train.jsonl", record)
        (problem,) = DATASETS[name].load(f"hf://{folder}::train")
        assert problem.answer == answer, name


REAL = {
    "gsm8k": ("problems/gsm8k-train.jsonl.gz", 7473),
    "math": ("problems/math-train.jsonl.gz", 7500),
    "math23k": ("problems/math23k-test.json.gz", 1000),
    "cmath": ("benchmarks/cmath-test.jsonl.gz", 1098),
    "mgsm-zh": ("benchmarks/mgsm_zh-mgsm_zh.jsonl.gz", 250),
    "gaokao-mathqa": ("benchmarks/gaokao-mathqa.jsonl.gz", 351),
    "gaokao-mathcloze": ("benchmarks/gaokao-mathcloze.jsonl.gz", 118),
    "sat": ("benchmarks/sat-test.jsonl.gz", 32),
    "ocw": ("benchmarks/ocw-test.jsonl.gz", 272),
    "mmlu-stem": ("benchmarks/mmlu_stem-test.jsonl.gz", 3018),
}


@pytest.mark.parametrize("name", list(REAL))
def test_real_files_are_read_whole(shared_data, name):
    path, count = REAL[name]
    problems = DATASETS[name].held_out(str(shared_data / path))
    assert len(problems) == count
    assert all(problem.question for problem in problems)
    assert sum(problem.answer == "" for problem in problems) <= 2
