"""Stage `sft`: supervised fine-tuning on worked solutions (paper section 3.1).

What the paper leaves open, and our choice: the loss is on the solution only (not on the prompt, not on what a program printed), and
examples that share a row do not see each other.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from data.errors import MathQuarryError
from data.solutions.example import Example, read_examples
from data.workspace import Workspace
from models.checkpoint import load_policy, load_tokenizer, read_prompt_style, save
from models.config import SFTConfig
from models.packing import IGNORED, Epochs, pack
from models.prompts import Prompter
from models.tokenizer import encode_all
from models.train import fit, language_model_loss, rows_per_step


def finetune(config: SFTConfig, base: Path, examples: Path, space: Workspace) -> dict[str, float | int | str]:
    """Train the checkpoint `base` on `examples / "examples.jsonl"` for `config.steps` steps; writes `space.out / "model"`.

    Returns counts of examples by format, tokens, dropped examples, passes over the data and the last loss.
    Raises `MathQuarryError` when the checkpoint or the file cannot be read, or when no example fits `context_tokens`.
    """
    solutions = read_examples(examples / "examples.jsonl")
    tokenizer = load_tokenizer(base)
    style = read_prompt_style(base, tokenizer)
    labelled = label_solutions(Prompter(tokenizer, style), solutions)
    try:
        rows = pack(labelled, config.context_tokens, config.seed)
    except MathQuarryError as error:
        raise MathQuarryError(f"{examples / 'examples.jsonl'}: {error}") from error
    policy = load_policy(base)
    result = fit(policy, Epochs(rows, config.seed), config, config.steps, space, "sft", language_model_loss)
    save(policy, tokenizer, space.out / "model", style)
    kept = [example for row in rows.rows for example in row]
    formats = Counter(solutions[example].format for example in kept)
    return {
        **result,
        **{f"examples_{name}": count for name, count in sorted(formats.items())},
        "examples_too_long": rows.dropped,
        "rows": len(rows),
        "filled_share": round(sum(len(labelled[example][0]) for example in kept) / (len(rows) * config.context_tokens), 4),
        "trained_tokens_an_epoch": sum(int((labelled[example][1] != IGNORED).sum()) for example in kept),
        "epochs": round(config.steps * rows_per_step(config) / len(rows), 3),
    }


def label_solutions(prompter: Prompter, solutions: list[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids and labels of each solution: prompt, segments, EOS; only trained segments and the EOS have labels.

    Segments are encoded one by one, as they are when the model writes them and a program answers.
    """
    segments = encode_all(prompter.tokenizer, [text for example in solutions for text in _texts(prompter, example)])
    encoded = iter(segments)
    labelled = []
    for example in solutions:
        tokens = prompter.encode(example.question, example.format, example.language)
        labels = [IGNORED] * len(tokens)
        for segment in example.segments:
            ids = next(encoded)
            tokens += ids
            labels += ids if segment.trained else [IGNORED] * len(ids)
        tokens.append(prompter.tokenizer.eos_token_id)
        labels.append(prompter.tokenizer.eos_token_id)
        labelled.append((np.asarray(tokens), np.asarray(labels)))
    return labelled


def _texts(prompter: Prompter, example: Example) -> list[str]:
    first, *rest = example.segments
    return [prompter.lead + first.text, *(segment.text for segment in rest)]
