"""All problem sets by name, and how a recipe names their files."""

from __future__ import annotations

from data.errors import MathQuarryError
from data.problems.cmath import CMATH
from data.problems.cn_k12 import CN_K12
from data.problems.dataset import Dataset
from data.problems.gaokao import GAOKAO_MATHCLOZE, GAOKAO_MATHQA
from data.problems.gsm8k import GSM8K
from data.problems.lila import LILA_OOD
from data.problems.math import MATH
from data.problems.math23k import MATH23K
from data.problems.mathinstruct import MATHINSTRUCT
from data.problems.mgsm import MGSM_ZH
from data.problems.mmlu_stem import MMLU_STEM
from data.problems.ocw import OCW
from data.problems.sat import SAT

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


def find(entry: str, default: str, train: bool) -> tuple[Dataset, str]:
    """The set and the place that an entry names: `path` (a file of set `default`), `set=path`, or `set=hub`.

    Raises `MathQuarryError` for a set that does not exist, or that has no such split on the hub.
    """
    name, equals, path = entry.partition("=")
    if not equals or name not in DATASETS:
        if equals and "/" not in name and "." not in name:
            raise MathQuarryError(f"{entry}: there is no problem set {name}. There are {', '.join(sorted(DATASETS))}.")
        name, path = default, entry
    dataset = DATASETS[name]
    return dataset, dataset.place(path, train)
