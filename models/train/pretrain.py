"""Stage `pretrain`: pretraining, from a checkpoint or from scratch, on the mined corpus and other sources (paper section 2.3).

Departures from the paper:
1. a model from scratch gets its tokenizer here, trained on the training problems and an equal amount of corpus text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import read_problems
from mathquarry.data.programs.calculator import strip_marks
from mathquarry.data.solutions.prompts import PromptStyle, prompt_text
from mathquarry.data.store.workspace import Workspace
from mathquarry.data.texts.documents import read_documents
from mathquarry.models.policy.adapters import adapter_summary
from mathquarry.models.policy.checkpoint import load_policy, load_start, load_tokenizer, new_policy, read_prompt_style, save
from mathquarry.models.policy.config import PretrainedModel, ScratchModel
from mathquarry.models.policy.tokenizer import train_tokenizer
from mathquarry.models.train.config import PretrainConfig
from mathquarry.models.train.fit import fit, language_model_loss
from mathquarry.models.train.held_out import held_out_rows
from mathquarry.models.train.measurement import Measurement
from mathquarry.models.train.optimizer import rows_per_step
from mathquarry.models.train.tokenize import Mix, rows_by_step, tokenise_source

SCRATCH_STYLE: PromptStyle = "short"


def pretrain(
    model: ScratchModel | PretrainedModel,
    config: PretrainConfig,
    corpus: Path,
    problems: Path,
    workspace: Workspace,
    before: Path | None = None,
) -> dict[str, float | int | str]:
    """Train on `config.mix` for `total_tokens // batch_tokens` steps and write the checkpoint to `workspace.out / "model"`.

    `corpus` holds `corpus/part-*.parquet`, and `problems` holds `train.jsonl` and `test.jsonl`. Training continues from the checkpoint in
    `before`, an earlier artifact of this stage, if given, else from `model`. Tokens and training state are kept in `workspace.scratch`.
    Returns the number of parameters, steps, tokens, the last loss, the last bits of the held-out texts, and for each source its tokens and
    repetitions. Raises `MathQuarryError` if the start checkpoint or a source cannot be read, or if there are too few tokens for one step.
    """
    rows = rows_per_step(config)
    steps = config.total_tokens // config.batch_tokens
    if steps == 0:
        raise MathQuarryError(f"total_tokens is {config.total_tokens}, less than one step of batch_tokens = {config.batch_tokens}.")
    mined = str(corpus / "corpus" / "*.parquet")
    if before is None:
        policy, tokenizer, style = start(model, config, mined, problems / "train.jsonl")
    else:
        policy, tokenizer = load_policy(before / "model"), load_tokenizer(before / "model")
        style = read_prompt_style(before / "model", tokenizer)
    counts = rows_by_step([source.weight for source in config.mix], rows, steps)
    streams = [
        tokenise_source(
            source,
            source.path or mined,
            tokenizer,
            workspace,
            context_tokens=config.context_tokens,
            wanted_tokens=(int(needed) + 1) * config.context_tokens,
            shard_tokens=config.shard_tokens,
            seed=config.seed,
        )
        for source, needed in zip(config.mix, counts.sum(axis=0), strict=True)
    ]
    mix = Mix(streams, counts, config.seed)
    held_out = [held_out_rows(text, problems / "test.jsonl", tokenizer, config.context_tokens) for text in config.held_out]
    base = None if before is None else before / "model"
    if config.lora.rank and base is None:  # the adapters' base model has no folder yet
        base = workspace.scratch / "start"
        save(policy, tokenizer, base, style)
    watched = Measurement(held_out, config.held_out_steps)
    result = fit(policy, mix, config, steps, workspace, "pretrain", language_model_loss, watched)
    save(policy, tokenizer, workspace.out / "model", style, base=base)
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    return {"parameters": parameters, "vocabulary": len(tokenizer), **adapter_summary(policy), **result, **mix.summary()}


def start(
    model: ScratchModel | PretrainedModel, config: PretrainConfig, mined: str, train_problems: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, PromptStyle]:
    """Return the model, tokenizer and prompt style that training starts from; the same for the same arguments."""
    if isinstance(model, PretrainedModel):
        return load_start(model)
    tokenizer = train_tokenizer(_sample(mined, train_problems, config.seed), model.vocabulary)
    return new_policy(model, tokenizer, config.seed, config.context_tokens), tokenizer, SCRATCH_STYLE


def _sample(mined: str, train_problems: Path, seed: int) -> Iterator[str]:
    """Yield text for the tokenizer: all training problems as prompts, then as many characters of the corpus."""
    characters = 0
    for problem in read_problems(train_problems):
        text = prompt_text(problem.question, "cot", problem.language, SCRATCH_STYLE) + strip_marks(problem.solution)
        characters += len(text)
        yield text
    for text in read_documents(mined, seed):
        if characters <= 0:
            return
        characters -= len(text)
        yield text
