"""Words in answers: joints, units and their names, number words, functions."""

from __future__ import annotations

import re
from fractions import Fraction

JOINTS = {"and": "and", "or": "or"}
"""Words between the parts of a list."""

FUNCTIONS = {
    name: name
    for name in [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "sinh",
        "cosh",
        "tanh",
        "coth",
        "arcsin",
        "arccos",
        "arctan",
        "ln",
        "log",
        "lg",
        "exp",
        "cis",
        "max",
        "min",
        "gcd",
        "lcm",
        "sqrt",
        "pi",
    ]
} | {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "arccot": "arccot",
    "oo": "infty",
    "inf": "infty",
    "infinity": "infty",
    "theta": "theta",
    "alpha": "alpha",
    "beta": "beta",
}

FACTORS = {
    "dozen": 12,
    "dozens": 12,
    "hundred": 100,
    "hundreds": 100,
    "thousand": 1000,
    "thousands": 1000,
    "million": 10**6,
    "millions": 10**6,
    "billion": 10**9,
    "billions": 10**9,
    "trillion": 10**12,
    "万": 10**4,
    "亿": 10**8,
    "百万": 10**6,
    "千万": 10**7,
}
"""Words that multiply the number before them. They are not units."""

_NAMES = """
% percent percentage pct
degree degrees deg 度
radian radians rad 弧度
dollar dollars USD usd bucks 美元
cent cents ¢
euro euros EUR €
pound-sterling £ GBP
yuan 元 块 块钱 人民币 RMB CNY ¥
jiao 角
fen-money 分钱
inch inches in 英寸
foot feet ft 英尺
yard yards yd yds
mile miles mi 英里
millimeter mm millimeters millimetre millimetres 毫米
centimeter cm centimeters centimetre centimetres 厘米
decimeter dm decimeters 分米
meter meters metre metres m 米
kilometer km kilometers kilometre kilometres 千米 公里
gram g grams gm 克
kilogram kg kilograms kgs 千克 公斤
milligram mg milligrams 毫克
ton tons 吨 tonne tonnes
pound pounds lb lbs
ounce ounces oz
second seconds sec secs s 秒 秒钟
minute minutes min mins 分钟
hour hours hr hrs h 小时 时
day days 天 日
week weeks 周 星期
month months 月 个月
year years yr yrs 年
liter liters litre litres L l 升
milliliter mL ml milliliters millilitres 毫升
gallon gallons gal
quart quarts
pint pints
cup cups
mph
kph
unit units
person people persons 人 名 个人
am AM a.m. a.m 上午
pm PM p.m. p.m 下午
acre acres
times time 倍
newton newtons
joule joules J
kilojoule kilojoules kJ
mole moles mol
kilowatt kilowatts kW
watt watts W
volt volts
hertz Hz
kelvin
"""
UNITS: dict[str, str] = {}
"""Spelling to name. The name of any other unit is its spelling without the plural s."""
for _line in _NAMES.strip().splitlines():
    _name, *_others = _line.split()
    UNITS |= dict.fromkeys([_name, *_others, *(word.lower() for word in (_name, *_others) if len(word) > 1)], _name)

UNITS |= {"mph": "mile per hour", "kph": "kilometer per hour", "kmh": "kilometer per hour", "mpg": "mile per gallon"}

SQUARES = frozenset(["square", "sq", "平方"])
CUBES = frozenset(["cubic", "cu", "立方"])

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty"
)
NUMBER_WORDS = {word: Fraction(value) for value, word in enumerate(_SMALL.split())} | {
    "half": Fraction(1, 2),
    "thirty": Fraction(30),
    "forty": Fraction(40),
    "fifty": Fraction(50),
    **{word: Fraction(value) for value, word in enumerate(["零", "一", "二", "三", "四", "五", "六", "七", "八", "九", "十"])},
    "两": Fraction(2),
}

EMPTY = frozenset(
    ["no solution", "no solutions", "no real solution", "no real solutions", "empty set", "empty", "the empty set", "none", "无解", "空集"]
)
REALS = frozenset(["all real numbers", "all reals", "all real", "real numbers", "reals", "全体实数", "所有实数", "任意实数", "实数集"])
"""Words for the real numbers."""
SYNONYMS = {"dne": "does not exist", "infinitely many solutions": "infinitely many", "无穷多": "infinitely many"}
"""Synonymous phrases."""
"""Words for the empty set."""

_WORDS = frozenset(
    [
        "no",
        "an",
        "at",
        "as",
        "am",
        "by",
        "my",
        "he",
        "if",
        "is",
        "it",
        "in",
        "so",
        "do",
        "up",
        "we",
        "be",
        "me",
        "to",
        "on",
        "of",
        "for",
        "not",
        "the",
        "none",
        "yes",
        "odd",
        "max",
        "min",
        "all",
        "any",
        "are",
        "but",
        "can",
        "cup",
        "cat",
        "dog",
        "red",
        "set",
        "six",
        "ten",
        "two",
        "one",
        "top",
        "way",
        "win",
        "won",
        "who",
        "why",
        "you",
        "east",
        "even",
    ]
)


_MONTHS = "january february march april may june july august september october november december"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_CALENDAR = {name[:3]: name for name in f"{_MONTHS} {_DAYS}".split()} | {
    "sept": "september",
    "tues": "tuesday",
    "thur": "thursday",
    "thurs": "thursday",
}
"""Short names of days and months."""
_WEEKDAY = re.compile("(?:星期|礼拜|周)([一二三四五六日天])")


def is_product(run: str) -> bool:
    """Whether a bare run of letters is a product of variables: short, and in the usual order of variables in a product."""
    if run.lower() in _WORDS:
        return False
    if len(run) == 2:
        return True
    if len(run) > 4 or any(letter in "eiouEIOU" for letter in run):
        return False
    return len(run) == 3 or list(run.lower()) == sorted(run.lower())


def unit_name(words: str) -> str:
    """One name for `dollars`, `dollar.` and ` Dollars `; `square meters`, `sq m` and 平方米 are `meter^2`."""
    for spelling in (words.strip(), words.strip(" .")):
        if spelling in UNITS:
            return UNITS[spelling]
    words = " ".join(words.lower().split()).strip(" .,")
    if words in UNITS:
        return UNITS[words]
    for marks, power in ((SQUARES, "^2"), (CUBES, "^3")):
        for mark in marks:
            rest = words.removeprefix(mark).strip(" .")
            if rest != words and rest and (mark in "平方立方" or words[len(mark)] in " ."):
                return unit_name(rest) + power
    if words.endswith("ies") and len(words) > 4:
        return words[:-3] + "y"
    if words.endswith(("ches", "shes", "sses", "xes")):
        return words[:-2]
    return words.removesuffix("s") if len(words) > 3 and not words.endswith("ss") else words


def phrase(text: str) -> str:
    """Normalize words for comparison: lower case, no article, days and months in full, no punctuation except between joined words."""
    text = re.sub(r"(?<=\b[a-z])\.(?=[a-z]\b|\s|$)", "", text.lower())
    words = " ".join(re.sub(r"[^\w\s:+/-]", " ", text).split())
    words = re.sub("^there (?:is|are) ", "", words).removeprefix("the ").removeprefix("an ")
    words = words.removeprefix("a ") if len(words) > 3 else words
    words = _WEEKDAY.sub(r"星期\1", words).replace("星期天", "星期日")
    words = " ".join(_CALENDAR.get(word, word) for word in words.split())
    return SYNONYMS.get(words, words)


def unit_phrase(words: list[str]) -> str:
    """One name for a unit of several words: `miles per hour`, `dollars an hour`, 元 每 千克."""
    names: list[str] = []
    current: list[str] = []
    for word in [*words, "per"]:
        if word.lower() in ("per", "an", "a", "each", "every") and (word.lower() == "per" or current):
            names.append(unit_name(" ".join(current)) if current else "")
            current = []
        elif word.startswith("每"):
            names.append(unit_name(" ".join(current)) if current else "")
            current = [word[1:]]
        elif inverse := re.fullmatch(r"(\w+)\^-(\d)", word):
            names.append(unit_name(" ".join(current)) if current else "")
            current = [inverse[1] if inverse[2] == "1" else _with_power(f"{inverse[1]}^{inverse[2]}")]
        else:
            current.append(word if word in UNITS else _with_power(word))
    return " per ".join(name for name in names if name) if names[0] else "per " + " per ".join(names[1:])


def _with_power(word: str) -> str:
    name, mark, power = word.partition("^")
    return f"{unit_name(name)}{mark}{power}"
