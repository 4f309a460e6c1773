"""Tokenizers: a small byte-level BPE trained from a sample of text, and the one way text becomes ids everywhere.

The paper keeps the tokenizer of its start checkpoint; a model from scratch needs its own, which is our choice:
1. one token a digit, and no space glued to it, so a number always reads the same;
2. a newline is a token of its own, so the end of a step is a token boundary;
3. byte-level, so every string survives encoding and decoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from data.errors import MathQuarryError

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"

# Words and runs of symbols take the space before them; digits, newlines and other white space stand alone.
PIECES = r"\n| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|[^\S\n]+"

SMALLEST_VOCABULARY = 256 + 3
"""Every byte and the special tokens."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of at most `vocabulary` tokens, the three special ones included.

    The result depends only on `texts` and `vocabulary`. Raises `MathQuarryError` when `vocabulary` cannot hold all bytes.
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
    """Token ids of `text` alone: nothing is added, and a special token's name inside the text is ordinary characters."""
    return encode_all(tokenizer, [text])[0]


def encode_all(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """`encode` for many texts at once."""
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]


def start_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What a sequence begins with: BOS, or nothing for tokenizers that have none (or only one token for both ends)."""
    return [] if tokenizer.bos_token_id in (None, tokenizer.eos_token_id) else [tokenizer.bos_token_id]
