"""Numbers in words: `twenty-one`, `two and a half`, `three quarters`, 十二, 三分之一, 2又三分之一."""

from __future__ import annotations

import re
from fractions import Fraction

MOST = 60
"""Characters in the longest number in words; longer text is prose."""
_SMALL = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
_ONES = {word: value for value, word in enumerate(_SMALL.split())}
_TENS = {word: 10 * value for value, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
}
_CHINESE_ONES = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
_CHINESE = "[零一二三四五六七八九十百千万亿两〇]"
_COUNTED = re.compile(f"(?<={_CHINESE})(?:个|人|名|只|条|种|元|岁|棵|本|支|张|天)$")
_CHINESE_FRACTION = re.compile(f"({_CHINESE}{{1,12}})分之({_CHINESE}{{1,12}})")


def spoken(text: str) -> Fraction | None:
    """The value of a number written entirely in words; None for everything else."""
    if not 0 < len(text) <= MOST:
        return None
    text = _COUNTED.sub("", text)
    if re.fullmatch(f"负?{_CHINESE}+", text):
        value = _fraction(_chinese(text.removeprefix("负")))
        return -value if value and text[0] == "负" else value
    words = re.sub(r"[-,]", " ", text.lower()).split()
    sign = -1 if words[:1] in (["negative"], ["minus"]) else 1
    found = _english(words[1:] if sign < 0 else words)
    return None if found is None else sign * found


def fractions_in_digits(text: str) -> str:
    """Convert 三分之一 to 3分之1 everywhere in the text."""
    return _CHINESE_FRACTION.sub(_in_digits, text) if "分之" in text else text


def _in_digits(match: re.Match[str]) -> str:
    under, over = _chinese(match[1]), _chinese(match[2])
    return match[0] if not under or over is None else f"{under}分之{over}"


def _fraction(value: int | None) -> Fraction | None:
    return None if value is None else Fraction(value)


def _english(words: list[str]) -> Fraction | None:
    if not words:
        return None
    if words[0] == "half" and len(words) > 1:
        rest = _english(words[2:] if words[1] in ("a", "an") else words[1:])
        return None if rest is None or words[-1] != "dozen" else rest / 2
    if (under := _PARTS.get(words[-1], _PARTS.get(words[-1].removesuffix("s")))) and words[-1] not in _SCALES:
        return _with_part(words[:-1], under)
    return _fraction(_whole(words))


def _with_part(words: list[str], under: int) -> Fraction | None:
    """`two and a half`, `three (quarters)`, `a (third)`, `one (half)`."""
    if "and" in words:
        place = len(words) - 1 - words[::-1].index("and")
        whole, over = _whole(words[:place]), _count(words[place + 1 :])
        return None if whole is None or over is None else whole + Fraction(over, under)
    over = _count(words) if words or under in (2, 4) else None  # `third` alone is an ordinal
    return None if over is None else Fraction(over, under)


def _count(words: list[str]) -> int | None:
    return 1 if words in ([], ["a"], ["an"]) else _whole(words)


def _whole(words: list[str]) -> int | None:
    """A whole number in words."""
    total = current = 0
    if not words or words[0] == "and" or words[-1] == "and":
        return None
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        if word in _ONES and before not in _ONES and (before not in _TENS or 0 < _ONES[word] < 10):
            current += _ONES[word]
        elif word in _TENS and before not in _ONES and before not in _TENS:
            current += _TENS[word]
        elif word in ("a", "an") and words[place + 1 : place + 2] and words[place + 1] in _SCALES and not place:
            current = 1
        elif word in ("hundred", "dozen"):
            current = max(1, current) * _SCALES[word]
        elif word in _SCALES:
            total, current = total + max(1, current) * _SCALES[word], 0
        elif word != "and" or before not in _SCALES:
            return None
    return total + current


def _chinese(text: str) -> int | None:
    """A whole number in Chinese numerals: 三十五, 一百零二, 两千; digit by digit if it has no scale characters: 二〇二四."""
    if not any(sign in _CHINESE_SCALES for sign in text):
        return int("".join(str(_CHINESE_ONES[sign]) for sign in text))
    if len(text) > 1 and text[-1] in _CHINESE_ONES and text[-2] in "百千万亿":
        return None  # 三百五 is 350 to many
    total = section = digit = 0
    for sign in text:
        if sign in _CHINESE_ONES:
            digit = _CHINESE_ONES[sign]
        elif _CHINESE_SCALES[sign] < 10**4:
            section, digit = section + max(1, digit) * _CHINESE_SCALES[sign], 0
        else:
            total, section, digit = (total + section + digit or 1) * _CHINESE_SCALES[sign], 0, 0
    return total + section + digit
