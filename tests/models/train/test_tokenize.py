"""Token shards and the mix."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.tokenizer import SMALLEST_VOCABULARY, encode, train_tokenizer
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.train.batches import micro_batches
from mathquarry.models.train.config import MixSource
from mathquarry.models.train.packing import IGNORED
from mathquarry.models.train.tokenize import Mix, TokenStream, document_row, rows_by_step, tokenise_source


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["Tom has 12 apples and buys 7 more.\nHow many?"], 300)


def write_source(path: Path, documents: int) -> str:
    path.write_text("".join(json.dumps({"text": f"Document {i} says {i * i}." if i % 7 else ""}) + "\n" for i in range(documents)))
    return str(path)


def tokenise(path: str, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, wanted: int, context: int = 16) -> TokenStream:
    source = MixSource(name="src", weight=1, path=path)
    return tokenise_source(source, path, tokenizer, workspace, context_tokens=context, wanted_tokens=wanted, shard_tokens=100, seed=5)


def tokens_of(stream: TokenStream) -> np.ndarray:
    return np.concatenate([stream[i]["input_ids"] for i in range(len(stream))])


@pytest.mark.parametrize(
    "text",
    ["Tom has 12 apples", " a  b\n\n\tc", "数学是 42", "é ̈ 😀", "\x00\x7f\r\n", "<bos> is text <eos>", r"\frac{1}{2} <<3*4=12>>12", ""],
)
def test_small_tokenizer_loses_nothing(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(encode(tokenizer, text)) == text


def test_digits_and_newlines_are_tokens_of_their_own() -> None:
    texts = ["x = 1234\n\n567 and 1234\n" * 50]
    tokenizer = train_tokenizer(texts, 400)
    pieces = [tokenizer.decode([token]) for token in encode(tokenizer, " and 1234\n\n567\n")]
    assert pieces == [" and", " ", "1", "2", "3", "4", "\n", "\n", "5", "6", "7", "\n"]


def test_special_names_in_text_are_text(tokenizer: PreTrainedTokenizerBase) -> None:
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert not special & set(encode(tokenizer, "<bos> <eos> <pad>"))


def test_tokenizer_training_repeats() -> None:
    texts = [f"Ann has {i} pens, Bob has {i + 3} cups." for i in range(200)]
    one, two = (train_tokenizer(texts, 350).backend_tokenizer.to_str() for _ in range(2))
    assert one == two


def test_a_vocabulary_without_room_for_bytes_is_an_error() -> None:
    with pytest.raises(MathQuarryError, match=f"at least {SMALLEST_VOCABULARY}"):
        train_tokenizer(["x"], 100)


def test_every_document_is_in_the_stream_once(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    path = write_source(tmp_path / "a.jsonl", 40)
    stream = tokenise(path, tokenizer, Workspace.at(tmp_path), 10**6, context=1)
    text = tokenizer.decode(tokens_of(stream))
    documents = sorted(document.removeprefix("<bos>") for document in text.split("<eos>") if document)
    assert documents == sorted(f"Document {i} says {i * i}." for i in range(40) if i % 7)


def test_tokenising_stops_when_the_run_has_enough(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    stream = tokenise(write_source(tmp_path / "a.jsonl", 3000), tokenizer, Workspace.at(tmp_path), 600)
    assert 600 <= stream.tokens < 600 + 512 * 40


def test_tokenising_continues_after_the_shards_that_were_finished(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    path = write_source(tmp_path / "a.jsonl", 200)
    whole = tokenise(path, tokenizer, Workspace.at(tmp_path / "one"), 10**6)
    workspace = Workspace.at(tmp_path / "two")
    tokenise(path, tokenizer, workspace, 10**6)
    shards = sorted((workspace.scratch / "tokens" / "src").glob("*.npy"))
    assert len(shards) > 5
    for shard in shards[4:]:
        shard.with_suffix(".json").unlink()
    shards[3].with_suffix(".json").unlink()
    shards[3].write_bytes(b"a shard without its record does not count")
    kept = shards[2].stat().st_mtime_ns
    again = tokenise(path, tokenizer, workspace, 10**6)
    assert shards[2].stat().st_mtime_ns == kept
    np.testing.assert_array_equal(tokens_of(again), tokens_of(whole))


def test_rows_reach_over_shard_borders(tmp_path: Path) -> None:
    shards = []
    for number, size in enumerate([5, 3, 9]):
        shards.append(tmp_path / f"shard-{number}.npy")
        np.save(shards[-1], np.arange(size, dtype=np.uint16) + 10 * number)
    stream = TokenStream("s", shards, 4, eos=99)
    expected = [*range(5), 10, 11, 12, *range(20, 28)]
    assert tokens_of(stream).tolist() == expected


def test_positions_restart_after_each_document_and_beginnings_have_no_loss() -> None:
    eos = 1
    row = document_row(np.array([7, 8, eos, 0, 9, eos, 0, 5]), eos)
    assert row["position_ids"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert row["labels"].tolist() == [IGNORED, 8, eos, IGNORED, 9, eos, IGNORED, 5]


def test_each_step_gets_its_rows_and_each_source_its_share() -> None:
    counts = rows_by_step([56, 4, 10, 20, 10], 7, 1000)
    assert (counts >= 0).all()
    assert (counts.sum(axis=1) == 7).all()
    drift = counts.cumsum(axis=0) - np.arange(1, 1001)[:, None] * 7 * np.array([0.56, 0.04, 0.1, 0.2, 0.1])
    assert np.abs(drift).max() < 1.5


def test_the_mix_goes_through_a_source_once_before_it_repeats_and_does_not_depend_on_where_it_starts(tmp_path: Path) -> None:
    streams = []
    for number, rows in enumerate([5, 8]):
        path = tmp_path / f"{number}.npy"
        np.save(path, np.repeat(np.arange(rows, dtype=np.uint16) + 100 * number, 4))
        streams.append(TokenStream(f"s{number}", [path], 4, eos=9999))
    mix = Mix(streams, rows_by_step([1, 1], 6, 10), seed=1)
    order = [int(mix[place]["input_ids"][0]) for place in range(60)]
    for number, rows in enumerate([5, 8]):
        drawn = [token for token in order if token // 100 == number]
        assert len(drawn) == 30
        assert len({(token, order[:place].count(token)) for place, token in enumerate(order)}) == 60
        appearances = [drawn.count(token) for token in sorted(set(drawn))]
        assert len(appearances) == rows
        assert max(appearances) - min(appearances) <= 1
    fresh = Mix(streams, rows_by_step([1, 1], 6, 10), seed=1)
    assert [int(fresh[place]["input_ids"][0]) for place in range(30, 60)] == order[30:]
    assert mix.summary()["s0_epochs"] == 6.0


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("micro_batch_rows", [1, 2])
def test_every_token_of_an_epoch_is_seen_once_over_any_number_of_ranks(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, ranks: int, micro_batch_rows: int
) -> None:
    stream = tokenise(write_source(tmp_path / "a.jsonl", 220), tokenizer, Workspace.at(tmp_path), 10**6)
    per_step = 7
    steps = len(stream) // per_step
    mix = pickle.loads(pickle.dumps(Mix([stream], rows_by_step([1], per_step, steps), seed=3)))
    places = [ranks_of_place(mix, range(step * per_step, (step + 1) * per_step), ranks, micro_batch_rows) for step in range(steps)]
    seen = sorted(row for step in places for row in step)
    whole = sorted(stream[index]["input_ids"].tolist() for index in range(len(stream)))
    assert len(seen) == steps * per_step > len(whole) - per_step
    left = whole.copy()
    for row in seen:
        left.remove(row)
    assert len(left) == len(whole) - len(seen) < per_step
    orders = [sorted(mix[place]["input_ids"].tolist() for place in range(step * per_step, (step + 1) * per_step)) for step in range(steps)]
    assert [sorted(step) for step in places] == orders, "and each in the step that one rank sees it in"


def ranks_of_place(mix: Mix, places: range, ranks: int, micro_batch_rows: int) -> list[list[int]]:
    """The rows with labels that all ranks together train on in a step."""
    shares = [micro_batches(mix, places, Ranks(rank, ranks, torch.device("cpu")), micro_batch_rows) for rank in range(ranks)]
    assert len({tuple(map(len, share)) for share in shares}) == 1, "as many forward passes of the same size on each"
    rows = [row for share in shares for batch in share for row in batch]
    return [row["input_ids"].tolist() for row in rows if (row["labels"] != IGNORED).any()]


def test_the_same_tokens_come_at_the_same_steps_after_a_change_of_ranks(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.arange(200, dtype=np.uint16))
    mix = Mix([TokenStream("s", [tmp_path / "s.npy"], 4, eos=999)], rows_by_step([1], 6, 20), seed=1)
    for step in (3, 15):
        places = range(step * 6, step * 6 + 6)
        seen = [sorted(ranks_of_place(mix, places, ranks, 2)) for ranks in (1, 2, 3, 4)]
        assert all(rows == seen[0] for rows in seen)


def test_the_gradient_of_a_document_does_not_reach_its_neighbours_unless_asked() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
    )
    row = document_row(np.array([7, 8, 1, 0, 9, 5, 1, 0, 3, 4]), eos=1)
    embedded = model.get_input_embeddings()(torch.from_numpy(row["input_ids"])[None]).detach()

    def reached(positions: torch.Tensor) -> list[bool]:
        inputs = embedded.clone().requires_grad_()
        hidden = model.base_model(inputs_embeds=inputs, position_ids=positions, use_cache=False).last_hidden_state
        (gradient,) = torch.autograd.grad(hidden[0, 3:7].sum() + (hidden[0, 3:7] ** 2).sum(), inputs)
        return gradient[0].abs().sum(dim=1).gt(0).tolist()

    assert reached(torch.from_numpy(row["position_ids"])[None]) == [False] * 3 + [True] * 4 + [False] * 3
    assert reached(torch.arange(10)[None]) == [True] * 7 + [False] * 3


def test_a_damaged_token_shard_is_named_and_made_again_once_deleted(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    path, workspace = write_source(tmp_path / "a.jsonl", 200), Workspace.at(tmp_path)
    whole = tokens_of(tokenise(path, tokenizer, workspace, 10**6))
    shard = workspace.scratch / "tokens" / "src" / "shard-00002.npy"
    shard.write_bytes(shard.read_bytes()[:150])
    with pytest.raises(MathQuarryError, match=r"shard-00002\.npy is damaged"):
        tokenise(path, tokenizer, workspace, 10**6)
    shard.unlink()
    np.testing.assert_array_equal(tokens_of(tokenise(path, tokenizer, workspace, 10**6)), whole)


def test_a_source_smaller_than_a_row_is_an_error(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="'src' has .* tokens, fewer than context_tokens"):
        tokenise(write_source(tmp_path / "a.jsonl", 3), tokenizer, Workspace.at(tmp_path), 100, context=1000)
