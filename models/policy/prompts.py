"""Encodes questions as prompt tokens. The wording of prompts is in `data/solutions/prompts.py`."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from mathquarry.data.config import Language
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.prompts import PromptStyle, prompt_text, user_message
from mathquarry.models.policy.checkpoint import load_tokenizer, read_prompt_style
from mathquarry.models.policy.tokenizer import encode, start_tokens


class Prompter:
    """Encodes questions for one checkpoint, in its prompt style.

    Styles: `paper` (section 3.1's sentences inside the released models' `User: ... Assistant:` template), `short` (ours, for models
    from scratch) and `own` (the paper's sentences inside the tokenizer's chat template).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, style: PromptStyle) -> None:
        """Raises `MathQuarryError` for the style `own` if the tokenizer has no chat template."""
        if style == "own" and not tokenizer.chat_template:
            raise MathQuarryError("chat_template is `own`, but the tokenizer has no chat template. Set model.chat_template to `paper`.")
        self.tokenizer = tokenizer
        self.style = style

    @classmethod
    def load(cls, model_dir: Path) -> Prompter:
        """Return the prompter of a checkpoint folder."""
        tokenizer = load_tokenizer(model_dir)
        return cls(tokenizer, read_prompt_style(model_dir, tokenizer))

    @property
    def lead(self) -> str:
        """Text between prompt and answer in training: in the released template, a space after `Assistant:`."""
        return " " if self.style == "paper" else ""

    def encode(self, question: str, format: SolutionFormat = "cot", language: Language = "en") -> list[int]:
        """Return the prompt's token ids, starting with BOS if the tokenizer has one. The answer's tokens follow directly."""
        if self.style == "own":
            message = {"role": "user", "content": user_message(question, format, language, self.style)}
            return list(self.tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=True, return_dict=False))
        return [*start_tokens(self.tokenizer), *encode(self.tokenizer, prompt_text(question, format, language, self.style))]
