"""Write a policy as a Hugging Face folder: weights, tokenizer with its chat template, generation config, card.

The generation config repeats the settings that this project evaluates with: answers end at every token at which training or the start model
ends them, decoding is greedy by default, and penalties or top-k of a start model's own generation config are dropped.

A policy of adapters is merged, so that programs without support for adapters can load it. If they are kept separate, the folder has the
adapters in peft's format, and its subfolder `base` the weights to which they are added, as a complete model.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import torch
from transformers import GenerationConfig

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import disk_error, exchange
from mathquarry.models.export.template import chat_template, check_template
from mathquarry.models.policy.adapter_checkpoint import BASE, CONFIG, WEIGHTS, base_of, is_adapted
from mathquarry.models.policy.checkpoint import SETTINGS_FILE, load_policy, load_tokenizer, policy_config, save_weights
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.rollout.engine import context_limit, folder_end_tokens

WeightType = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[WeightType, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

CARD = "README.md"


def export_policy(policy: Path, out: Path, card: str, max_tokens: int, dtype: WeightType | None = None, merge: bool = True) -> None:
    """Write the policy in the checkpoint folder `policy` to `out`, which must be new or empty, with `card` as its README.

    Weights keep their precision unless `dtype` is given; merged ones are float32. Without `merge`, adapters stay separate, and `dtype` is
    that of the weights in `base`. `max_tokens` becomes the maximum answer length in the generation config. The folder is published with one
    rename, so it is never incomplete.

    Raises `MathQuarryError` if `policy` is not a causal language model, if it has no adapters to keep separate, if `out` is not empty, if
    the disk is full, or if no chat template can reproduce the prompts of training with this tokenizer.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MathQuarryError(f"{out} exists already. Choose a new folder, or delete it first.")
    if not (merge or is_adapted(policy)):
        raise MathQuarryError("this policy has no adapters that could stay apart: all its weights were trained. Leave --no-merge out.")
    config = policy_config(policy)
    prompter = Prompter.load(policy)
    limit = context_limit(config)
    generation = GenerationConfig(
        bos_token_id=prompter.tokenizer.bos_token_id,
        eos_token_id=_one_or_many(folder_end_tokens(policy)),
        pad_token_id=prompter.tokenizer.pad_token_id,
        max_new_tokens=max_tokens if limit is None else min(max_tokens, limit - 1),
    )
    staged = out.absolute().with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        staged.mkdir(parents=True)
        if merge:
            _write_weights(policy, staged, dtype)
        else:
            load_policy(policy)  # refuses what is no plain LoRA of this model
            (staged / BASE).mkdir()
            _write_weights(base_of(policy), staged / BASE, dtype)
            for name in ("config.json", CONFIG, WEIGHTS):
                shutil.copyfile(policy / name, staged / name)
        for folder in [staged] if merge else [staged, staged / BASE]:
            _write_tokenizer(prompter, policy, folder)
            generation.save_pretrained(folder)
            shutil.copyfile(policy / SETTINGS_FILE, folder / SETTINGS_FILE)
        (staged / CARD).write_text(card, encoding="utf-8")
        exchange(staged, out.absolute())
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write_tokenizer(prompter: Prompter, policy: Path, folder: Path) -> None:
    tokenizer = load_tokenizer(policy)
    tokenizer.chat_template = chat_template(prompter)
    tokenizer.save_pretrained(folder)
    check_template(prompter, load_tokenizer(folder))  # check the files that were written


def _write_weights(policy: Path, folder: Path, dtype: WeightType | None) -> None:
    if dtype is not None or is_adapted(policy):
        save_weights(load_policy(policy, DTYPES[dtype or "float32"]), None, folder)
        return
    files = [file for file in policy.iterdir() if file.name == "config.json" or ".safetensors" in file.suffixes]
    if not any(file.suffix == ".safetensors" for file in files):
        raise MathQuarryError(f"{policy} has no .safetensors weights. Export a policy of a store, or give a --dtype to convert them.")
    for file in files:
        shutil.copyfile(file, folder / file.name)


def _one_or_many(ids: list[int]) -> int | list[int]:
    return ids[0] if len(ids) == 1 else ids
