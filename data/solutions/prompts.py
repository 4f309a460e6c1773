r"""Prompts: the paper's sentences, and a short style for models with few tokens.

The sentences and the `User:`/`Assistant:` frame come from the authors' repository (github.com/deepseek-ai/DeepSeek-Math). It has no
sentence for program-of-thought; ours is marked.
"""

from __future__ import annotations

from typing import Literal, assert_never

from mathquarry.data.config import Language
from mathquarry.data.solutions.config import SolutionFormat

PromptStyle = Literal["paper", "short", "own"]
"""`paper`: the paper's sentences and frame; `short`: question and one word (ours, `tiny`); `own`: the paper's sentences inside the
tokenizer's own chat template."""

PAPER: dict[tuple[SolutionFormat, Language], str] = {
    ("cot", "en"): r"Please reason step by step, and put your final answer within \boxed{}.",
    ("cot", "zh"): r"请通过逐步推理来解答问题，并把最终答案放置于\boxed{}中。",
    ("tool", "en"): (
        "Please integrate natural language reasoning with programs to solve the problem above, "
        r"and put your final answer within \boxed{}."
    ),
    ("tool", "zh"): r"请结合自然语言和Python程序语言来解答问题，并把最终答案放置于\boxed{}中。",
    # Ours: the paper has no program-of-thought sentence.
    ("pot", "en"): "Please write a Python program that solves the problem above and prints the final answer.",
    ("pot", "zh"): "请编写一个Python程序来解答问题，并打印最终答案。",
}
SHORT: dict[SolutionFormat, str] = {"cot": "Answer:", "pot": "Program:", "tool": "Tool:"}


def user_message(question: str, format: SolutionFormat, language: Language, style: PromptStyle) -> str:
    """The question with the sentence that asks for a solution in `format`. The style `short` has one word for both languages."""
    if style == "short":
        return f"{question}\n{SHORT[format]}"
    return f"{question}\n{PAPER[format, language]}"


def prompt_text(question: str, format: SolutionFormat, language: Language, style: PromptStyle) -> str:
    """The text to tokenize after BOS; the solution follows it directly. For `own`, the tokenizer's chat template goes around it."""
    message = user_message(question, format, language, style)
    match style:
        case "paper":
            return f"User: {message}\n\nAssistant:"
        case "short" | "own":
            return message
        case _:
            assert_never(style)
