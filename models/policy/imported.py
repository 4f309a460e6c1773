"""Stage `import`: converts an external model to our checkpoint format, with an untied head."""

from __future__ import annotations

from typing import Literal

from mathquarry.data.solutions.prompts import PromptStyle
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import load_start, load_token_classifier, load_tokenizer, save
from mathquarry.models.policy.config import PretrainedModel


def import_model(
    path: str, holds: Literal["policy", "reward"], chat_template: Literal["own", "paper"] | None, workspace: Workspace
) -> dict[str, int | str]:
    """Load the model at `path` (same forms as `PretrainedModel.path`) and write it to `workspace.out / "model"`, in float32.

    `holds` says whether it is a policy or a reward model. Without `chat_template`, a policy uses its tokenizer's template if it has one,
    else the paper's. Returns the number of weights, the vocabulary size and the prompt style. Raises `MathQuarryError` if it cannot be
    read or is another kind of model.
    """
    style: PromptStyle
    if holds == "policy":
        model, tokenizer, style = load_start(PretrainedModel(path=path, chat_template=chat_template or "paper"))
        if chat_template is None and tokenizer.chat_template:
            style = "own"
    else:
        model, tokenizer = load_token_classifier(path), load_tokenizer(path)
        style = "own" if tokenizer.chat_template else "paper"
    save(model, tokenizer, workspace.out / "model", style)
    return {"parameters": sum(weight.numel() for weight in model.parameters()), "vocabulary": len(tokenizer), "prompt_style": style}
