"""All problem sets by name, and the recipe's forms for their files."""

from __future__ import annotations

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.cmath import CMATH
from mathquarry.data.problems.cn_k12 import CN_K12
from mathquarry.data.problems.config import ProblemFiles
from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.gaokao import GAOKAO_MATHCLOZE, GAOKAO_MATHQA
from mathquarry.data.problems.gsm8k import GSM8K
from mathquarry.data.problems.lila import LILA_OOD
from mathquarry.data.problems.math import MATH
from mathquarry.data.problems.math23k import MATH23K
from mathquarry.data.problems.mathinstruct import MATHINSTRUCT
from mathquarry.data.problems.mgsm import MGSM_ZH
from mathquarry.data.problems.mmlu_stem import MMLU_STEM
from mathquarry.data.problems.ocw import OCW
from mathquarry.data.problems.own import own_dataset
from mathquarry.data.problems.sat import SAT

DATASETS = {
    dataset.name: dataset
    for dataset in (
        GSM8K,
        MATH,
        CMATH,
        MGSM_ZH,
        GAOKAO_MATHQA,
        GAOKAO_MATHCLOZE,
        SAT,
        OCW,
        MMLU_STEM,
        MATH23K,
        LILA_OOD,
        MATHINSTRUCT,
        CN_K12,
    )
}


def find(entry: str, source: ProblemFiles, train: bool) -> tuple[Dataset, str]:
    """Return the set and the path of an entry: `path` (a file of set `source.dataset`), `set=path`, or `set=hub`.

    Raises `MathQuarryError` if the set does not exist, or has no such split on the hub.
    """
    known = {**DATASETS, **{name: own_dataset(name, columns) for name, columns in source.sets.items()}}
    name, equals, path = entry.partition("=")
    if not equals or name not in known:
        if equals and "/" not in name and "." not in name:
            raise MathQuarryError(f"{entry}: there is no problem set {name}. Known sets are {', '.join(sorted(known))}.")
        name, path = source.dataset, entry
    dataset = known[name]
    return dataset, dataset.place(path, train)


def found_in(source: ProblemFiles) -> list[str]:
    """Return the paths of all entries. Raises `MathQuarryError` like `find`."""
    entries = [*((entry, True) for entry in source.train), *((entry, False) for entry in source.test)]
    return [find(entry, source, train)[1] for entry, train in entries]
