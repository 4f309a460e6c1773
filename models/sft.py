"""Stage `sft`: supervised fine-tuning on worked solutions (paper section 3.1).

What the paper leaves open, and our choice: the loss is on the solution only (not on the prompt, not on what a program printed), and
examples that share a row do not see each other.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
from transformers import PreTrainedModel

from data.config import Language, SolutionFormat
from data.errors import MathQuarryError
from data.solutions.example import Example, read_examples
from data.workspace import Workspace
from models.checkpoint import load_policy, load_tokenizer, read_prompt_style, save
from models.config import SFTConfig
from models.packing import IGNORED, Epochs, Labelled, pack
from models.prompts import Prompter
from models.tokenizer import encode_all
from models.train import fit, language_model_loss, rows_per_step

GROUPS = (*get_args(SolutionFormat), *get_args(Language))
SAMPLE = 64
"""Examples of each format and language whose loss is measured before and after."""


def finetune(config: SFTConfig, base: Path, examples: Sequence[Path], space: Workspace) -> dict[str, float | int | str]:
    """Train the checkpoint `base` on the `examples.jsonl` of all folders for `config.steps` steps; writes `space.out / "model"`.

    Logs, beside what `fit` logs, `loss_FORMAT` and `loss_LANGUAGE` before the first and after the last step: the loss a token on a fixed
    sample of the training examples. Returns counts of examples by format, tokens, dropped examples, passes over the data and the last loss.
    Raises `MathQuarryError` when the checkpoint or a file cannot be read, or when no example fits `context_tokens`.
    """
    files = [folder / "examples.jsonl" for folder in examples]
    solutions = [example for file in files for example in read_examples(file)]
    tokenizer = load_tokenizer(base)
    style = read_prompt_style(base, tokenizer)
    labelled = label_solutions(Prompter(tokenizer, style), solutions)
    try:
        rows = pack(labelled, config.context_tokens, config.seed)
    except MathQuarryError as error:
        raise MathQuarryError(f"{', '.join(map(str, files))}: {error}") from error
    policy = load_policy(base)
    groups = {name: [place for place, example in enumerate(solutions) if name in (example.format, example.language)] for name in GROUPS}
    if not space.metrics.read():
        space.metrics.log(0, **losses_of_groups(policy, labelled, groups, config))
    result = fit(policy, Epochs(rows, config.seed), config, config.steps, space, "sft", language_model_loss)
    space.metrics.log(config.steps, **losses_of_groups(policy, labelled, groups, config))
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


def losses_of_groups(
    policy: PreTrainedModel, labelled: Sequence[Labelled], groups: Mapping[str, Sequence[int]], config: SFTConfig
) -> dict[str, float]:
    """Mean loss a trained token of up to `SAMPLE` examples of each group that fit a row, drawn from the config's seed: `loss_cot`, ..."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy.to(device)  # type: ignore[arg-type]
    losses = {}
    for name, members in groups.items():
        fitting = [place for place in members if len(labelled[place][0]) <= config.context_tokens]
        if not fitting:
            continue
        chosen = random.Random(f"loss of {name}/{config.seed}").sample(fitting, min(SAMPLE, len(fitting)))
        rows = pack([labelled[place] for place in chosen], config.context_tokens, config.seed)
        total, count = 0.0, 0
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            for row in (rows[place] for place in range(len(rows))):
                batch = {key: torch.from_numpy(value)[None].to(device) for key, value in cast(dict[str, np.ndarray], row).items()}
                total += float(language_model_loss(policy, batch, torch.ones((), device=device)))
                count += int((row["labels"] != IGNORED).sum())
        losses[f"loss_{name}"] = total / count
    return losses


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
