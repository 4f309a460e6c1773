"""Load and save policies and reward models, in Hugging Face format.

A checkpoint folder holds config.json, safetensors, the tokenizer and mathquarry.json (the prompt style used in training). A stage that
trained adapters also writes the checkpoint they belong to, in the folder `base` (`adapter_checkpoint.py`); loading merges them.

Causal models are always saved with their own `lm_head.weight` and `tie_word_embeddings` off, even if they were tied: an inference engine
that reloads tied weights in place can keep its old head.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json, write_json
from mathquarry.data.solutions.prompts import PromptStyle
from mathquarry.models.policy.adapter_checkpoint import base_of, is_adapted, merge_adapters, write_adapters
from mathquarry.models.policy.adapters import has_adapters
from mathquarry.models.policy.config import PretrainedModel, ScratchModel
from mathquarry.models.policy.reading import (
    LOAD_ERRORS,
    PACKAGE_PREFIX,
    architectures,
    checked_config,
    checkpoint_folder,
    first_line,
    load_checked,
    load_gguf,
    packaged_gguf,
    pinned,
    quiet,
    read_config,
    with_padding,
)

SETTINGS_FILE = "mathquarry.json"


def new_policy(config: ScratchModel, tokenizer: PreTrainedTokenizerBase, seed: int, context_tokens: int = 1024) -> PreTrainedModel:
    """Return an untied Llama with random float32 weights drawn from `seed`, for `tokenizer` and up to `context_tokens` (at least 1024).

    Raises `MathQuarryError` if the hidden size is not a multiple of twice the number of heads (rotary embeddings rotate pairs).
    """
    if config.hidden % (2 * config.heads):
        raise MathQuarryError(f"model.hidden is {config.hidden}; it must be a multiple of 2 x model.heads = {2 * config.heads}.")
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden,
        intermediate_size=config.intermediate,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=max(1024, context_tokens),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(shape).eval()


def load_start(model: PretrainedModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, PromptStyle]:
    """Load the checkpoint that training starts from: float32 weights with an untied head, tokenizer, prompt style.

    Raises `MathQuarryError` if `model.path` is not a checkpoint folder, a hub name, a GGUF file or an installed package, or does not hold a
    causal language model.
    """
    path = packaged_gguf(model.path) if model.path.startswith(PACKAGE_PREFIX) else Path(model.path)
    if path.suffix == ".gguf":
        policy, tokenizer = load_gguf(path)
    else:
        policy, tokenizer = load_checked(AutoModelForCausalLM, model.path, torch.float32), load_tokenizer(model.path)
    untie(policy)
    _agree_on_ends(policy, tokenizer)
    if model.chat_template == "own" and not tokenizer.chat_template:
        raise MathQuarryError(f"model.chat_template is `own`, but the tokenizer of {model.path} has no chat template. Set it to `paper`.")
    return policy, tokenizer, "own" if model.chat_template == "own" else "paper"


def load_tokenizer(folder: Path | str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint folder or hub name. It gets a padding token if it has none (EOS).

    Raises `MathQuarryError` if there is no tokenizer, or if it has no EOS: answers could not end without one.
    """
    name, revision = pinned(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise MathQuarryError(f"cannot load a tokenizer from {folder}: {first_line(error)}") from error
    return with_padding(tokenizer, str(folder))


def _agree_on_ends(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the tokenizer's EOS, with which training ends an answer, to the tokens at which the model stops.

    Chat models often have several (`<|im_end|>` and `<|endoftext|>`). Some list them only in the generation config, and some have a
    config.json copied from another model. All are kept, since a policy may still use them.
    """
    sources = (policy.config, policy.generation_config)
    named = {token for source in sources for token in _token_ids(getattr(source, "eos_token_id", None))}
    ends = [tokenizer.eos_token_id, *sorted(named - {tokenizer.eos_token_id})]
    for source in sources:
        if source is not None:
            source.eos_token_id = ends if len(ends) > 1 else ends[0]


def _token_ids(ids: int | list[int] | None) -> list[int]:
    return [ids] if isinstance(ids, int) else list(ids or [])


def load_policy(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the causal language model in a checkpoint folder, with its adapters merged, in evaluation mode.

    Raises `MathQuarryError` if the folder does not hold one.
    """
    if is_adapted(folder):
        policy_config(folder)
        return _cast(merge_adapters(load_policy(base_of(folder)), folder), dtype)
    return load_checked(AutoModelForCausalLM, checkpoint_folder(folder), dtype)


def load_reward(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the reward model (token classification, one label) in a checkpoint folder, with its adapters merged, in evaluation mode.

    Raises `MathQuarryError` if the folder does not hold one.
    """
    if is_adapted(folder):
        config, base = reward_config(folder), base_of(folder)
        begun = load_reward(base) if is_reward(base) else _classifier(load_policy(base), config)
        return _cast(merge_adapters(begun, folder), dtype)
    return load_token_classifier(checkpoint_folder(folder), dtype)


def load_token_classifier(source: Path | str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the reward model in a checkpoint folder or hub name, in evaluation mode. Raises `MathQuarryError` if there is none."""
    model = load_checked(AutoModelForTokenClassification, source, dtype)
    if model.config.num_labels != 1:
        raise MathQuarryError(f"{source} classifies tokens into {model.config.num_labels} labels; a reward model has one.")
    return model


def policy_config(folder: Path) -> PreTrainedConfig:
    """Load the config of a causal language model's checkpoint folder. Raises `MathQuarryError` if it is not one."""
    return checked_config(checkpoint_folder(folder), AutoModelForCausalLM)


def reward_config(folder: Path) -> PreTrainedConfig:
    """Load the config of a reward model's checkpoint folder. Raises `MathQuarryError` if it is not one."""
    return checked_config(checkpoint_folder(folder), AutoModelForTokenClassification)


def is_reward(folder: Path) -> bool:
    """Whether a checkpoint folder holds a reward model. Raises `MathQuarryError` if it is not a checkpoint."""
    return bool(architectures(read_config(checkpoint_folder(folder)), AutoModelForTokenClassification))


def new_reward_model(policy_folder: Path, seed: int) -> PreTrainedModel:
    """Put a new head with one output per token on the body of a policy (paper section 4.1.2: initialised from the base model).

    The head is drawn from `seed`, with weights so small that every score starts near sigmoid(0) = 0.5. It has no dropout, so scores are
    reproducible. Raises `MathQuarryError` if the folder is not a causal language model or its architecture has no token classifier.
    """
    config = checked_config(checkpoint_folder(policy_folder), AutoModelForCausalLM)
    config.num_labels = 1
    config.classifier_dropout = 0.0
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            if is_adapted(policy_folder):
                model = _classifier(load_policy(policy_folder), config)
            else:
                model = AutoModelForTokenClassification.from_pretrained(
                    policy_folder, config=config, dtype=torch.float32, trust_remote_code=False
                )
        head = cast(nn.Linear, model.score)
    except (*LOAD_ERRORS, AttributeError) as error:
        raise MathQuarryError(f"cannot put a reward head on {policy_folder}: {first_line(error)}") from error
    with torch.no_grad():
        nn.init.normal_(head.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
        if head.bias is not None:
            nn.init.zeros_(head.bias)
    return model.eval()


def _classifier(policy: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    """Return a token classifier on the body of a policy. Its head is not initialised yet."""
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
    model.base_model.load_state_dict(policy.base_model.state_dict())
    return model.eval()


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    prompt_style: PromptStyle,
    weights: dict[str, torch.Tensor] | None = None,
    base: Path | None = None,
) -> None:
    """Write a checkpoint folder. `weights` replace the model's own if those are sharded. The model itself does not change.

    A model with adapters is saved as adapters plus `base`, the checkpoint that it was loaded from. Raises `MathQuarryError` if the disk is
    full.
    """
    if has_adapters(model):
        assert base is not None, "adapters need the checkpoint they belong to"
        write_adapters(model, weights, folder, base)
    else:
        if _is_tied(model):
            model = copy.deepcopy(model)
            untie(model)
        save_weights(model, weights, folder)
    try:
        tokenizer.save_pretrained(folder)
    except OSError as error:
        raise MathQuarryError(f"cannot write the checkpoint {folder}: {error}. Free some space, then run again.") from error
    write_json(folder / SETTINGS_FILE, {"prompt_style": prompt_style})


def save_weights(model: PreTrainedModel, weights: dict[str, torch.Tensor] | None, folder: Path) -> None:
    """Write config and weights (the model's own, or `weights`) of an untied model. Raises `MathQuarryError` if the disk is full."""
    try:
        with quiet():
            model.save_pretrained(folder, state_dict=weights)
    except (OSError, SafetensorError) as error:
        raise MathQuarryError(f"cannot write the checkpoint {folder}: {error}. Free some space, then run again.") from error


def read_prompt_style(folder: Path, tokenizer: PreTrainedTokenizerBase) -> PromptStyle:
    """Return a checkpoint's prompt style. For other checkpoints: `own` if the tokenizer has a chat template, else `paper`."""
    if (folder / SETTINGS_FILE).exists():
        return read_json(folder / SETTINGS_FILE)["prompt_style"]
    return "own" if tokenizer.chat_template else "paper"


def untie(model: PreTrainedModel) -> None:
    """Give the language-model head its own weights, in place: a copy of the embeddings that it shared."""
    if not _is_tied(model):
        return
    model.config.tie_word_embeddings = False
    head = cast(nn.Linear, model.get_output_embeddings())
    head.weight = nn.Parameter(head.weight.detach().clone())
    model.all_tied_weights_keys = {}


def _is_tied(model: PreTrainedModel) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    nn.Module.to(model, dtype)
    return model
