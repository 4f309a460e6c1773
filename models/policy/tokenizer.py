"""Tokenizers: trains a small byte-level BPE tokenizer, and encodes text in the same way everywhere.

The paper keeps the tokenizer of its start checkpoint. A model from scratch needs its own (our choice):
1. each digit is one token, and never includes a space, so a number is always encoded in the same way;
2. a newline is a separate token, so the end of a step is a token boundary;
3. it is byte-level, so every string survives encoding and decoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mathquarry.data.errors import MathQuarryError

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"

# Words and runs of symbols include the space before them. Digits, newlines and other white space are separate.
PIECES = r"\n| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|[^\S\n]+"

SMALLEST_VOCABULARY = 256 + 3
"""All bytes and the special tokens."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of at most `vocabulary` tokens, including the three special tokens.

    The result depends only on `texts` and `vocabulary`. Raises `MathQuarryError` if `vocabulary` is too small for all bytes.
    """
    if vocabulary < SMALLEST_VOCABULARY:
        raise MathQuarryError(f"model.vocabulary is {vocabulary}; a byte-level tokenizer needs at least {SMALLEST_VOCABULARY} tokens.")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer=trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of `text` only: nothing is added, and the name of a special token in the text is ordinary characters."""
    return encode_all(tokenizer, [text])[0]


def encode_all(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Encode many texts at once, like `encode`."""
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]


def start_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the first tokens of a sequence: BOS, or nothing if the tokenizer has none (or uses one token for both ends)."""
    return [] if tokenizer.bos_token_id in (None, tokenizer.eos_token_id) else [tokenizer.bos_token_id]
