"""Problem files in the forms that sets are published in, and files that are something else."""

import bz2
import gzip
import io
import json
import sqlite3
import zipfile
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems import benchmark, gsm8k
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import ProblemFiles, ProblemsConfig
from mathquarry.data.problems.registry import DATASETS
from mathquarry.data.store.workspace import Workspace

RECORDS = [
    {"question": "What is 1 and 2, x ≤ 3?", "answer": "It is <<1+2=3>>3.\n#### 3"},
    {"question": 'A "quoted" word;\nand a line: 二又二分之一', "answer": "#### 1,000"},
]
ASKED = [(record["question"], answer) for record, answer in zip(RECORDS, ("3", "1000"), strict=True)]
PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress}


def parquet(records: list[dict], **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), sink, **options)
    return sink.getvalue()


def arrow(records: list[dict]) -> bytes:
    sink, table = io.BytesIO(), pa.Table.from_pylist(records)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def csv(records: list[dict], delimiter: str = ",") -> bytes:
    sink = io.BytesIO()
    pa.csv.write_csv(pa.Table.from_pylist(records), sink, pa.csv.WriteOptions(delimiter=delimiter))
    return sink.getvalue()


def json_lines(records: list[dict]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


FORMS = {
    "parquet": parquet(RECORDS),
    "arrow": arrow(RECORDS),
    "csv": csv(RECORDS),
    "tsv": csv(RECORDS, "\t"),
    "jsonl": json_lines(RECORDS),
    "ndjson": json_lines(RECORDS),
    "json": json.dumps(RECORDS, ensure_ascii=False).encode(),
}


def asked(path: Path, content: bytes, encoding: str | None = None) -> list[tuple[str, str]]:
    path.write_bytes(content)
    return [(problem.question, problem.answer) for problem in gsm8k.load(str(path), encoding)]


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("form", FORMS)
def test_a_set_is_the_same_in_every_form_and_packing(tmp_path: Path, form: str, packing: str) -> None:
    path = tmp_path / f"words.{form}{packing}"
    assert asked(path, PACKERS[packing](FORMS[form])) == ASKED
    assert [problem.id for problem in gsm8k.load(str(path))] == ["words-1", "words-2"]


def test_binary_tables_and_packings_are_known_by_their_bytes_and_not_by_their_names(tmp_path: Path) -> None:
    for form in ("parquet", "arrow", "jsonl"):
        assert asked(tmp_path / "train-00000-of-00001", gzip.compress(FORMS[form])) == ASKED
    assert asked(tmp_path / "words.jsonl", FORMS["parquet"]) == ASKED
    assert asked(tmp_path / "words.csv", csv(RECORDS, ";")) == ASKED


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("coding", ["gb18030", "utf-16-le", "utf-32", "big5hkscs"])
def test_text_in_another_coding_is_read_when_it_is_declared(tmp_path: Path, form: str, coding: str) -> None:
    content = FORMS[form].decode().replace("x ≤ 3", "x").encode(coding)
    path = tmp_path / f"words.{form}.gz"
    assert asked(path, gzip.compress(content), coding)[1] == ASKED[1]
    assert asked(path, FORMS[form], coding) == ASKED  # a file of the same recipe that is UTF-8
    if coding in ("gb18030", "big5hkscs"):
        with pytest.raises(MathQuarryError, match=r"words\.\w+\.gz is not UTF-8\. Set problems\.encoding"):
            asked(path, content)


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_declares_the_coding(tmp_path: Path, form: str, coding: str) -> None:
    for stated in (None, "gb18030"):
        assert asked(tmp_path / f"words.{form}", FORMS[form].decode().encode(coding), stated) == ASKED


def test_a_file_that_is_not_in_the_declared_coding_either_says_so(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="neither UTF-8 nor big5"):
        asked(tmp_path / "words.jsonl", b'{"question": "\xff\xff"}', "big5")


@pytest.mark.parametrize("name", ["nonsense", "rot13", "base64", "", "utf-8\0", "é" * 500])
def test_what_is_no_coding_is_refused(tmp_path: Path, name: str) -> None:
    config = ProblemsConfig(source=ProblemFiles(train=["a.jsonl"], test=["b.jsonl"]), encoding=name)
    with pytest.raises(MathQuarryError, match=r"problems\.encoding: .* is not a text encoding"):
        build_problems(config, Workspace.at(tmp_path))


def test_the_stage_reads_every_file_in_the_coding_of_its_recipe(tmp_path: Path) -> None:
    for name, form, number in (("train.csv", "csv", 0), ("held.jsonl", "jsonl", 1)):
        content = csv(RECORDS[number:][:1]) if form == "csv" else json_lines(RECORDS[number:])
        (tmp_path / name).write_bytes(content.decode().encode("gb18030"))
    (tmp_path / "more.jsonl").write_bytes(json_lines([{"question": "二", "answer": "2"}]).decode().encode("gb18030"))
    source = ProblemFiles(train=[str(tmp_path / "train.csv")], test=[str(tmp_path / "held.jsonl")])
    config = ProblemsConfig(source=source, benchmarks=[str(tmp_path / "more.jsonl")], encoding="gb18030")
    workspace = Workspace.at(tmp_path / "w")
    assert build_problems(config, workspace)["benchmarks"] == 1
    assert json.loads((workspace.out / "benchmarks.jsonl").read_text())["question"] == "二"


def spreadsheet() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return sink.getvalue()


def database(path: Path) -> bytes:
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (a)")
    connection.close()
    return path.read_bytes()


def test_a_file_of_another_kind_gets_an_error_that_says_what_it_is(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    others = {
        "Git LFS pointer": pointer,
        "web page": b"\n<!DOCTYPE html><title>Log in</title>",
        "ZIP archive or a spreadsheet": spreadsheet(),
        "SQLite": database(tmp_path / "db"),
        "pickle": b"\x80\x04\x95\x10",
        "xz": b"\xfd7zXZ\x00\x00\x04",
        "PDF": b"%PDF-1.7\n",
    }
    for kind, content in others.items():
        for name, whole in (("x.parquet", content), ("x.jsonl.gz", gzip.compress(content))):
            with pytest.raises(MathQuarryError, match=rf"{name} is .*{kind}"):
                asked(tmp_path / name, whole)


@pytest.mark.parametrize("packing", [".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("form", FORMS)
def test_wherever_a_file_is_cut_it_is_one_clear_error(tmp_path: Path, form: str, packing: str) -> None:
    content = PACKERS[packing](FORMS[form])
    for cut in (4, 5, len(content) // 2, len(content) - 5):
        with pytest.raises(MathQuarryError, match=rf"words\.{form}"):
            asked(tmp_path / f"words.{form}{packing}", content[:cut])


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_a_file_with_any_bytes_changed_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["parquet", "arrow", "csv"]))
    content = bytearray(FORMS[form])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("changed") / f"words.{form}"
    path.write_bytes(content)
    with suppress(MathQuarryError):  # and nothing else
        benchmark.load(str(path))


def test_a_table_that_is_nested_too_deep_is_one_clear_error(tmp_path: Path) -> None:
    deep: object = "x"
    for _ in range(120):
        deep = {"a": deep}
    with pytest.raises(MathQuarryError, match=r"deep\.parquet .* too deeply nested"):
        asked(tmp_path / "deep.parquet", parquet([{"question": "q", "answer": "#### 2", "more": deep}]))


def test_lists_and_structs_of_parquet_are_those_of_json(tmp_path: Path) -> None:
    record = {"query": "Which?", "choices": ["(A) 1", "(B) 2"], "gold": [1]}
    for name, content in (("a.parquet", parquet([record])), ("a.jsonl", json_lines([record]))):
        (tmp_path / name).write_bytes(content)
    (table,), (lines,) = (DATASETS["gaokao-mathqa"].load(str(tmp_path / name)) for name in ("a.parquet", "a.jsonl"))
    assert table == lines
    assert table.answer == "B"


def test_a_column_that_is_missing_is_named_with_its_record(tmp_path: Path) -> None:
    for name, content in (("x.csv", csv([{"problem": "q"}])), ("x.parquet", parquet([{"problem": "q"}]))):
        with pytest.raises(MathQuarryError, match=rf"{name}, record 1: no text in field `question`: the record has problem"):
            asked(tmp_path / name, content)


@pytest.mark.parametrize("content", [b"", b"question,answer\n", b"\n\n"])
def test_a_table_without_rows_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(MathQuarryError, match=r"x\.csv"):
        asked(tmp_path / "x.csv", content)


def test_a_file_that_unpacks_to_too_much_and_a_line_that_is_too_long_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("unpacked", "tables"):
        monkeypatch.setattr(f"mathquarry.data.problems.{module}.LARGEST", 1 << 20)
    for name, line in (("a.jsonl.gz", b'{"question": "q", "answer": "#### 1"}\n'), ("a.csv.zst", b'q,"a"\n'), ("a.json.gz", b" " * 8)):
        with pytest.raises(MathQuarryError, match=r"decompresses to more than 1,048,576 bytes"):
            asked(tmp_path / name, PACKERS[Path(name).suffix](line * (1 << 18)))
    many = [{"question": "x" * 10_000, "answer": "#### 1"}] * 300
    with pytest.raises(MathQuarryError, match=r"has more than 1,048,576 bytes"):
        asked(tmp_path / "a.parquet", parquet(many))
    for module in ("unpacked", "json_records"):
        monkeypatch.setattr(f"mathquarry.data.problems.{module}.LONGEST_LINE", 1 << 10)
    with pytest.raises(MathQuarryError, match=r"line 2 has more than 1,024 characters"):
        asked(tmp_path / "b.jsonl", FORMS["jsonl"].splitlines(keepends=True)[0] + b"[" * 5000)
