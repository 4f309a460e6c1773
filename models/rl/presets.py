"""Losses of other papers as settings of section `grpo`: `preset = "dapo"` in a recipe is short for the fields below.

A preset is only the paper's loss. docs/training-methods.md lists the papers' other techniques and the settings for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # DAPO, arXiv 2503.14476: its objective, with the values in its section 4.1.
    "dapo": {"clip_low": 0.2, "clip_high": 0.28, "loss_normalisation": "tokens", "kl": "none"},
    # arXiv 2503.20783: no division by std and length (section 3.2), and no KL term.
    "dr_grpo": {"advantage_normalisation": "none", "loss_normalisation": "constant", "kl": "none"},
    # GSPO, arXiv 2507.18071: its objective, with the values in its section 5.1.
    "gspo": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4, "kl": "none"},
    # CISPO, arXiv 2506.13585. No lower bound. The paper does not give the upper one: 1 + 4 is from arXiv 2510.13786 and TRL.
    "cispo": {"surrogate": "cispo", "clip_low": 1.0, "clip_high": 4.0, "loss_normalisation": "tokens", "kl": "none"},
}


def with_preset(values: Any) -> Any:
    """Return the values of a section, with its `preset` (if any) replaced by the preset's fields.

    A field that is given in addition to the preset must agree with it: a recipe that says `dapo` uses DAPO's loss. To change a part, write
    all fields instead. Raises `ValueError` with the fields that disagree, and for an unknown preset.
    """
    if not isinstance(values, Mapping) or "preset" not in values:
        return values
    given = dict(values)
    name = given.pop("preset")
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset is {name!r}; known presets are {', '.join(PRESETS)}")
    fields = PRESETS[name]
    contradicted = [
        f"{field} = {value!r}, but you set {given[field]!r}" for field, value in fields.items() if given.get(field, value) != value
    ]
    if contradicted:
        raise ValueError(
            f"preset `{name}` has {'; '.join(contradicted)}. Remove those fields, or remove the preset and write all of its fields: "
            + ", ".join(f"{field} = {value!r}" for field, value in fields.items())
        )
    return {**given, **fields}
