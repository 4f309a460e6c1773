"""Makes a checkpoint folder from any model: one of ours, another one, or a GGUF file.

Engines stop at the tokens in config.json and generation_config.json, and training ends answers with the tokenizer's EOS. In other people's
folders these can differ, and the prompt style is missing. The corrected files are written to a new folder, next to links to the original
files; the original folder does not change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json, write_json
from mathquarry.data.solutions.prompts import PromptStyle
from mathquarry.models.policy.adapter_checkpoint import BASE, base_of, is_adapted
from mathquarry.models.policy.checkpoint import SETTINGS_FILE, load_start, load_tokenizer, policy_config, read_prompt_style, save
from mathquarry.models.policy.config import PretrainedModel

_ENDS = ("config.json", "generation_config.json")


def checkpoint_folder(source: str | Path, room: Path, style: PromptStyle | None = None) -> Path:
    """Return a folder inside `room` with the model of `source`, which engines can load and `Prompter` can prompt in `style`.

    `source` is a folder or, as text, a GGUF file or `package:NAME`.
    Without a `style`, our policies get their training prompts. Other models get their tokenizer's chat template, or the paper's prompts if
    there is none. Raises `MathQuarryError` if `source` is not a causal language model, or if it cannot be prompted in `style`.
    """
    folder = room / "model"
    if isinstance(source, str):
        start = PretrainedModel(path=source)
        model, tokenizer, _ = load_start(start)
        save(model, tokenizer, folder, style or ("own" if tokenizer.chat_template else "paper"))
        return folder
    source = source.resolve()
    if (source / "adapter_config.json").exists() and not (source / "config.json").exists():
        raise MathQuarryError(f"{source} is an adapter without its base model. Merge the two first.")
    policy_config(source)
    tokenizer = load_tokenizer(source)
    chosen = style or read_prompt_style(source, tokenizer)
    if chosen == "own" and not tokenizer.chat_template:
        raise MathQuarryError(f"{source} has no chat template. Use the paper's prompts instead: --prompts paper.")
    _link(source, folder, tokenizer.eos_token_id)
    (folder / SETTINGS_FILE).unlink(missing_ok=True)
    write_json(folder / SETTINGS_FILE, {"prompt_style": chosen})
    return folder


def _link(source: Path, folder: Path, end: int) -> None:
    """Link the files of `source` and of the checkpoint to which its adapters belong, with `end` among the end tokens of each."""
    folder.mkdir(parents=True)
    changed: dict[str, Any] = {}
    for name in _ENDS:
        if (source / name).exists():
            settings = read_json(source / name)
            if not isinstance(settings, dict):
                raise MathQuarryError(f"{source / name} is not a JSON object.")
            ends = settings.get("eos_token_id")
            named = ends if isinstance(ends, list) else [] if ends is None else [ends]
            if end not in named:
                changed[name] = {**settings, "eos_token_id": [end, *named]}
    for file in source.iterdir():
        if file.is_file() and file.name not in changed:
            (folder / file.name).symlink_to(file)
    for name, content in changed.items():
        write_json(folder / name, content)
    if is_adapted(source):
        _link(base_of(source), folder / BASE, end)
