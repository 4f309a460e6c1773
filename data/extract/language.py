"""Detects the language of a text."""

from __future__ import annotations

import re

import numpy as np
from resiliparse.parse.lang import detect_fast

UNKNOWN = "unknown"
_SAMPLE = 4000
"""Characters examined: the beginning is enough, and long pages cost no more."""

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_FIRST_EAST_ASIAN = 0x3040
_LETTER = re.compile(r"[^\W\d_]")
_EAST_ASIAN_SHARE = 0.2


def detect_language(text: str) -> str:
    """ISO 639-1 code of the text's language, or "unknown" for a text without enough words.

    Chinese, Japanese and Korean are detected by the share of their letters (our choice: a fifth of all letters, since Chinese mathematics
    is full of Latin ones); kana distinguish Japanese from Chinese. For everything else, resiliparse's n-gram detector decides.
    """
    sample = text[:_SAMPLE]
    if not _LETTER.search(sample):
        return UNKNOWN
    if sample.isascii() or np.frombuffer(sample.encode("utf-16-le", "surrogatepass"), dtype="<u2").max() < _FIRST_EAST_ASIAN:
        return detect_fast(sample)[0]
    letters = len(_LETTER.findall(sample))
    han, kana, hangul = (len(script.findall(sample)) for script in (_HAN, _KANA, _HANGUL))
    if max(han + kana, hangul) >= _EAST_ASIAN_SHARE * letters:
        if hangul > han + kana:
            return "ko"
        return "ja" if kana > 0.1 * (han + kana) else "zh"
    return detect_fast(sample)[0]
