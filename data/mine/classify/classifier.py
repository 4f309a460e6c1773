"""The page classifier: fastText with the paper's settings, then collapsed to the size of its labels.

The paper (section 2.1) gives the dimension, learning rate, n-grams, minimum count and epochs, but not how the text is
prepared. fastText splits words at white space, so `$x_{1}` and `$x_{2}` would have nothing in common, and neither would two
Chinese sentences. Here each symbol and each Chinese character is a word, every number is the word 0, and letters are
lower-cased.
"""

from __future__ import annotations

import random
import re
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import fasttext
import numpy as np
from numpy.typing import NDArray

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path, disk_error
from mathquarry.data.mine.config import ClassifierConfig
from mathquarry.data.mine.pages.hashing import UNSPACED

POSITIVE = "math"
NEGATIVE = "other"

_PREFIX = "__label__"
# Kinds of characters in `as_line`: white space, a digit, a word by itself, the start of a TeX command, or part of a word.
_SPACE, _DIGIT, _SYMBOL, _BACKSLASH, _LETTER = range(5)
_KIND_PATTERNS = {
    _SPACE: re.compile(r"\s+"),
    _DIGIT: re.compile(r"\d+"),
    _SYMBOL: re.compile(rf"[$^_{{}}()\[\]=+\-*/<>|,.;:!?\"'&#%~@`{UNSPACED}]+"),
    _BACKSLASH: re.compile(r"\\"),
}
# fastText returns exp(log(p + 1e-5)) for a probability p.
_FASTTEXT_EPSILON = 1e-5
# Header of fastText's .bin, little-endian: magic, version, 12 integer arguments and one double; then sizes of the dictionary.
_HEADER = struct.Struct("<2i12id")
_DICTIONARY = struct.Struct("<3i2q")
_MAGIC, _VERSION = 793712314, 12
_DIM, _LOSS, _MODEL = 2, 8, 9  # positions in the header
_SOFTMAX, _SUPERVISED = 3, 3
_ROWS_AT_ONCE = 65_536
_LINES_IN_MEMORY = 20_000


def as_line(text: str) -> str:
    """The text as the classifier reads it, in training and scoring: one line of words, TeX commands, numbers, symbols, Chinese characters.

    fastText's special words, the label prefix `__label__` and the line end `</s>`, are split up and lose their meaning.
    """
    text = text.lower()
    # The text is one array of characters: all symbols are found at once, and no string is created per word.
    coding, characters = ("ascii", "<u1") if text.isascii() else ("utf-32-le", "<u4")
    codes = np.frombuffer(text.encode(coding, "surrogatepass"), dtype=characters)
    kinds = _kinds(text.isascii())[codes]
    kept, starts = kinds != _SPACE, kinds != _SPACE
    kept[1:] &= (kinds[1:] != _DIGIT) | (kinds[:-1] != _DIGIT)
    starts[1:] &= (kinds[1:] != _LETTER) | (kinds[:-1] < _BACKSLASH)
    places = np.flatnonzero(kept)
    if not len(places):
        return ""
    codes = np.where(kinds[places] == _DIGIT, codes.dtype.type(ord("0")), codes[places])
    target = np.arange(-1, len(places) - 1) + np.cumsum(starts[places])  # no space before the first word
    line = np.full(target[-1] + 1, ord(" "), dtype=codes.dtype)
    line[target] = codes
    return line.tobytes().decode(coding, "surrogatepass")


@lru_cache(maxsize=2)
def _kinds(ascii_only: bool) -> NDArray[np.uint8]:
    """The kind of each character, by its code point. All of Unicode takes a quarter of a second."""
    last = 0x7F if ascii_only else sys.maxunicode
    everything = "".join(map(chr, range(last + 1)))
    kinds = np.full(len(everything), _LETTER, dtype=np.uint8)
    for kind, pattern in _KIND_PATTERNS.items():
        for run in pattern.finditer(everything):
            kinds[run.start() : run.end()] = kind
    return kinds


def write_examples(path: Path, examples: Iterable[tuple[str, bool]], count: int, seed: int) -> None:
    """Write (text, is positive) pairs as fastText's training file in an order drawn from `seed`.

    fastText trains in file order, so the labels must be mixed. `count` is the expected number of examples. More than
    20,000 are first distributed over part files, and each part is shuffled separately, so memory stays bounded.
    """
    draw = random.Random(seed)
    parts = [path.with_name(f"{path.name}.{part}") for part in range(max(1, -(-count // _LINES_IN_MEMORY)))]
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(part.open("w", encoding="utf-8", errors="replace")) for part in parts]
            for text, positive in examples:
                label = POSITIVE if positive else NEGATIVE
                files[draw.randrange(len(files))].write(f"{_PREFIX}{label} {as_line(text)}\n")
    except OSError as error:
        raise disk_error(error, path) from error
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for part in parts:
            lines = part.read_text(encoding="utf-8").splitlines(keepends=True)
            draw.shuffle(lines)
            out.writelines(lines)
            part.unlink()


def train(examples: Path, model: Path, config: ClassifierConfig, seed: int) -> None:
    """Train on a file of `write_examples` and write `model`, a full fastText .bin of about 4 * dim * (words + buckets) bytes.

    With `config.threads` = 1 the same file and seed give the same bytes. Raises `MathQuarryError` naming the field to
    change when no word is frequent enough or the training diverges.
    """
    try:
        trained = fasttext.train_supervised(
            input=str(examples),
            dim=config.dim,
            lr=config.learning_rate,
            wordNgrams=config.word_ngrams,
            minCount=config.min_count,
            epoch=config.epochs,
            bucket=config.buckets,
            thread=config.threads,
            seed=seed,
            verbose=0,
        )
    except ValueError as error:
        raise MathQuarryError(
            f"fastText cannot train on the seed ({error}). Use more seed pages, or lower classifier.min_count = {config.min_count}."
        ) from None
    except RuntimeError as error:
        raise MathQuarryError(f"classifier training diverged ({error}). Lower classifier.learning_rate = {config.learning_rate}.") from None
    with atomic_path(model) as temporary:
        trained.save_model(str(temporary))


def collapse(full: Path, small: Path) -> None:
    """Write the same classifier with one vector component per label: a standard .bin, 2 GB -> 17 MB with the paper's settings.

    A page's logits are O @ mean(rows of E). With E' = E @ O.T and O' = identity they are mean(rows of E'), equal up to
    rounding (1e-6). This holds for softmax models that are not quantized, with or without subwords. Raises
    `MathQuarryError` for any other file.
    """
    with full.open("rb") as file:
        header = list(_read(file, _HEADER, full))
        if header[:2] != [_MAGIC, _VERSION] or header[_MODEL] != _SUPERVISED or header[_LOSS] != _SOFTMAX:
            raise MathQuarryError(f"{full} is not a supervised fastText model with softmax loss; only those can be collapsed.")
        dictionary = _read_dictionary(file, full)
        _expect_dense(file, full)
        rows, dim = _read(file, struct.Struct("<2q"), full)
        start = file.tell()
        file.seek(start + 4 * rows * dim)
        _expect_dense(file, full)
        labels, _ = _read(file, struct.Struct("<2q"), full)
        output = np.frombuffer(file.read(4 * labels * dim), dtype="<f4").reshape(labels, dim)
    embeddings = np.memmap(full, dtype="<f4", mode="r", offset=start, shape=(rows, dim))
    header[_DIM] = labels
    with atomic_path(small) as temporary, temporary.open("wb") as out:
        out.write(_HEADER.pack(*header) + dictionary + b"\0" + struct.pack("<2q", rows, labels))
        for first in range(0, rows, _ROWS_AT_ONCE):
            product = embeddings[first : first + _ROWS_AT_ONCE].astype(np.float64) @ output.T.astype(np.float64)
            out.write(product.astype("<f4").tobytes())
        out.write(b"\0" + struct.pack("<2q", labels, labels) + np.eye(labels, dtype="<f4").tobytes())


def _expect_dense(file: BinaryIO, path: Path) -> None:
    """Read the byte before each matrix that says whether it is quantized."""
    match file.read(1):
        case b"\0":
            return
        case b"":
            raise MathQuarryError(f"{path} is cut short; is the disk full? Free some space, then run again.")
        case _:
            raise MathQuarryError(f"{path} is quantized; collapse the model it was made from.")


def _read(file: BinaryIO, layout: struct.Struct, path: Path) -> tuple:
    data = file.read(layout.size)
    if len(data) != layout.size:
        raise MathQuarryError(f"{path} is not a fastText model: it ends after {len(data)} bytes of a header of {layout.size}.")
    return layout.unpack(data)


def _read_dictionary(file: BinaryIO, path: Path) -> bytes:
    """The dictionary's raw bytes: sizes, entries (word, 0, int64 count, int8 kind), pruned indices (pairs of int32)."""
    sizes = _read(file, _DICTIONARY, path)
    entries, pruned = sizes[0], sizes[4]
    copied = bytearray(_DICTIONARY.pack(*sizes))
    for _ in range(entries):
        while (byte := file.read(1)) not in (b"\0", b""):
            copied += byte
        copied += b"\0" + file.read(9)
    return bytes(copied) + file.read(8 * max(pruned, 0))


class Classifier:
    """A loaded classifier. The collapsed model takes about 90 MB and scores about 18,000 pages per second and core."""

    def __init__(self, model: Path) -> None:
        try:
            self._model = fasttext.load_model(str(model))
        except ValueError as error:
            raise MathQuarryError(f"{model} cannot be loaded as a fastText model: {error}.") from None

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probability that each text is mathematical, shape (len(texts),), in [0, 1]."""
        positive = _PREFIX + POSITIVE
        scores = np.zeros(len(texts), dtype=np.float32)
        if not texts:
            return scores
        lines = [as_line(text) for text in texts]
        for row, (labels, probabilities) in enumerate(zip(*self._model.predict(lines, k=-1, on_unicode_error="replace"), strict=True)):
            for label, probability in zip(labels, probabilities, strict=True):
                if label == positive:
                    scores[row] = probability - _FASTTEXT_EPSILON
        return np.clip(scores, 0.0, 1.0)
