"""Reward examples in files: they are read back unchanged, in any selection, without using the process's own memory."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.reward.examples import (
    LabelledExamples,
    RewardExample,
    RewardExamples,
    read_reward_data,
    write_mapped,
    write_reward_data,
)
from mathquarry.models.train.packing import pack

LONG = RewardExample(0, "p", [5] * 1000, [7], [0], [1.0], True, True)
TOKENS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6)


@st.composite
def examples(draw: st.DrawFn) -> RewardExample:
    completion = draw(TOKENS)
    ends = sorted({*draw(st.lists(st.integers(0, len(completion) - 1))), len(completion) - 1})
    labels = draw(st.sampled_from([[0.0], [1.0, *[0.5] * (len(ends) - 1)]]))
    name = draw(st.text(st.characters(exclude_categories=("Cs",)), max_size=8))
    return RewardExample(draw(st.integers(0, 9)), name, draw(TOKENS), completion, ends, labels, draw(st.booleans()), draw(st.booleans()))


@given(st.lists(examples(), max_size=12), st.integers(1, 5), st.data())
@settings(max_examples=40, deadline=None)
def test_examples_come_back_from_files_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, given: list[RewardExample], batch: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mathquarry.models.reward.examples.BATCH", batch)
        write_reward_data(folder / "all.parquet", given)
        mapped = write_mapped(folder / "all.arrow", [folder / "all.parquet", read_reward_data(folder / "all.parquet")])
        assert list(mapped) == [*given, *given]
        indices = np.array(data.draw(st.lists(st.sampled_from(range(2 * len(given))), max_size=6)) if given else [], dtype=np.int64)
        some = pickle.loads(pickle.dumps(mapped.select(indices)))
        assert list(some) == [some[i] for i in range(len(some))] == [[*given, *given][i] for i in indices]
        assert some.column("problem_id").to_pylist() == [e.problem_id for e in some]
        assert some.token_counts().tolist() == [len(e.prompt) + len(e.completion) for e in some]
        for example, (tokens, labels) in zip(some, LabelledExamples(some), strict=True):
            expected = [math.nan] * (len(example.prompt) + len(example.completion))
            for end, label in zip(example.label_ends, example.labels, strict=True):
                expected[len(example.prompt) + end] = label
            np.testing.assert_array_equal(labels, np.array(expected, np.float32))
            assert list(tokens) == [*example.prompt, *example.completion]


def test_what_another_process_gets_of_mapped_examples_is_their_file(tmp_path: Path) -> None:
    mapped = write_mapped(tmp_path / "all.arrow", [RewardExamples.of([LONG] * 500)])
    rows = pack(LabelledExamples(mapped), 2048, 0, mapped.token_counts().tolist())
    sent = pickle.dumps(rows)
    assert len(sent) < 20_000 < mapped.table.nbytes
    assert all((rows[place][key] == pickle.loads(sent)[place][key]).all() for place in (0, 7) for key in ("input_ids", "position_ids"))  # type: ignore[literal-required]


def test_mapped_examples_are_no_memory_of_arrows(tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()
    mapped = write_mapped(tmp_path / "all.arrow", [RewardExamples.of([LONG] * 5000)])
    assert len(mapped) == 5000
    assert pa.total_allocated_bytes() - before < mapped.table.nbytes / 10


@pytest.mark.parametrize("content", [b"", b"cut", None, pa.table({"text": ["a"]})])
def test_a_file_that_is_no_reward_data_is_named(tmp_path: Path, content: bytes | pa.Table | None) -> None:
    file = tmp_path / "some.parquet"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        pq.write_table(content, file)
    for read in (lambda: read_reward_data(file), lambda: write_mapped(tmp_path / "all.arrow", [file])):
        with pytest.raises(MathQuarryError, match=r"some.parquet is not reward data: .* Run the reward stage again"):
            read()
    assert not (tmp_path / "all.arrow").exists()
