"""Stage `sft`: supervised fine-tuning on worked solutions (paper section 3.1).

Our choices, where the paper does not say: the loss is only on the solution (not on the prompt, not on the output of programs), and examples
in a row do not see each other.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from mathquarry.data.config import Language
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.example import Example, read_examples
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.adapters import adapter_summary
from mathquarry.models.policy.checkpoint import load_policy, load_tokenizer, read_prompt_style, save
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.tokenizer import encode_all
from mathquarry.models.train.config import SFTConfig
from mathquarry.models.train.fit import fit, language_model_loss
from mathquarry.models.train.measurement import Measurement, TrainedSample
from mathquarry.models.train.optimizer import rows_per_step
from mathquarry.models.train.packing import IGNORED, Epochs, Labelled, pack

GROUPS = (*get_args(SolutionFormat), *get_args(Language))
SAMPLE = 64
"""Examples of each format and language whose loss is measured before and after training."""


def finetune(config: SFTConfig, base: Path, examples: Sequence[Path], workspace: Workspace) -> dict[str, float | int | str]:
    """Train the checkpoint `base` for `config.steps` steps on the `examples.jsonl` of all folders. Writes `workspace.out / "model"`.

    In addition to the metrics of `fit`, logs `loss_FORMAT` and `loss_LANGUAGE` before the first and after the last step: the loss per token
    on a fixed sample of the training examples. Returns counts of examples by format, tokens, dropped examples, passes over the data, last
    losses. Raises `MathQuarryError` if the checkpoint or a file cannot be read, or if no example fits `context_tokens`.
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
    # Measured inside the training loop, since the policy can be too large for one process.
    measurement = Measurement(list(samples_of_groups(labelled, groups, config)), every=config.steps)
    result = fit(policy, Epochs(rows, config.seed), config, config.steps, workspace, "sft", language_model_loss, measurement)
    save(policy, tokenizer, workspace.out / "model", style, base=base)
    kept = [example for row in rows.rows for example in row]
    formats = Counter(solutions[example].format for example in kept)
    return {
        **result,
        **adapter_summary(policy),
        **{f"examples_{name}": count for name, count in sorted(formats.items())},
        "examples_too_long": rows.dropped,
        "rows": len(rows),
        "filled_share": round(sum(len(labelled[example][0]) for example in kept) / (len(rows) * config.context_tokens), 4),
        "trained_tokens_an_epoch": sum(int((labelled[example][1] != IGNORED).sum()) for example in kept),
        "epochs": round(config.steps * rows_per_step(config) / len(rows), 3),
    }


def samples_of_groups(labelled: Sequence[Labelled], groups: Mapping[str, Sequence[int]], config: SFTConfig) -> Iterator[TrainedSample]:
    """Yield a sample of each nonempty group (name -> places of its examples): up to `SAMPLE` examples that fit a row, by seed."""
    for name, members in groups.items():
        fitting = [place for place in members if len(labelled[place][0]) <= config.context_tokens]
        if fitting:
            chosen = random.Random(f"loss of {name}/{config.seed}").sample(fitting, min(SAMPLE, len(fitting)))
            yield TrainedSample(name, pack([labelled[place] for place in chosen], config.context_tokens, config.seed))


def label_solutions(prompter: Prompter, solutions: list[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return token ids and labels of each solution: prompt, segments, EOS. Only trained segments and the EOS have labels.

    Segments are encoded separately, as in sampling, where the model writes one segment and a program the next.
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
