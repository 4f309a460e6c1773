"""Old names of recipe fields, so that an old recipe gets an error with the new name."""

from __future__ import annotations

RENAMED = {
    "outputs_per_question": "group_size",
    "questions_per_step": "prompts_per_step",
    "updates_per_step": "num_updates",
    "importance_cap": "tis_cap",
    "batch_outputs": "batch_completions",
    "shortest_output": "shortest_completion",
    "coefficient": "advantage",
}
"""Old name -> new name of a field, in every section that has the new one."""

REPLACED = {
    "grpo.clip_range": "give clip_low and clip_high.",
    "grpo.dapo": 'use preset = "dapo".',
    "grpo.dr_grpo": 'use preset = "dr_grpo".',
}
"""Removed field -> what to do instead."""

RENAMED_VALUES = {
    "paradigm.data": {"start": "offline", "policy": "online"},
    "paradigm.advantage": {"one": "constant"},
}
"""End of a field's location -> old value -> new value."""


def renamed_value(field: str, value: object) -> str | None:
    """Return the new name of a field's value; `None` if it was not renamed."""
    for end, values in RENAMED_VALUES.items():
        if field.endswith(end) and isinstance(value, str) and value in values:
            return values[value]
    return None
