"""Stage `pretrain`: continue (or begin) pretraining on the mined corpus and other sources (paper section 2.3).

Departures from the paper:
1. a model from scratch gets its tokenizer here, trained on the training problems and as much text of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.documents import read_documents
from data.errors import MathQuarryError
from data.problems.problem import read_problems
from data.programs.calculator import strip_marks
from data.solutions.prompts import PromptStyle, prompt_text
from data.workspace import Workspace
from models.checkpoint import load_policy, load_start, load_tokenizer, new_policy, read_prompt_style, save
from models.config import PretrainConfig, PretrainedModel, ScratchModel
from models.held_out import held_out_rows
from models.measurement import Measurement
from models.tokenize import Mix, rows_by_step, tokenise_source
from models.tokenizer import train_tokenizer
from models.train import fit, language_model_loss, rows_per_step

SCRATCH_STYLE: PromptStyle = "short"


def pretrain(
    model: ScratchModel | PretrainedModel,
    config: PretrainConfig,
    corpus: Path,
    problems: Path,
    space: Workspace,
    before: Path | None = None,
) -> dict[str, float | int | str]:
    """Train on `config.mix` for `total_tokens // batch_tokens` steps and write the checkpoint to `space.out / "model"`.

    `corpus` holds `corpus/part-*.parquet`, `problems` holds `train.jsonl` and `test.jsonl`. Training goes on from the checkpoint in
    `before`, an earlier artifact of this stage, where there is one, and else from `model`. Tokens and training state are kept in
    `space.scratch`. Returns the parameters, steps, tokens, last loss, the last bits of the held-out texts, and for each source its tokens
    and repetitions.
    Raises `MathQuarryError` when the start checkpoint or a source cannot be read, or when there is not even one step.
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
            space,
            context_tokens=config.context_tokens,
            wanted_tokens=(int(needed) + 1) * config.context_tokens,
            shard_tokens=config.shard_tokens,
            seed=config.seed,
        )
        for source, needed in zip(config.mix, counts.sum(axis=0), strict=True)
    ]
    mix = Mix(streams, counts, config.seed)
    held_out = [held_out_rows(text, problems / "test.jsonl", tokenizer, config.context_tokens) for text in config.held_out]
    watched = Measurement(held_out, config.held_out_steps)
    result = fit(policy, mix, config, steps, space, "pretrain", language_model_loss, watched)
    save(policy, tokenizer, space.out / "model", style)
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    return {"parameters": parameters, "vocabulary": len(tokenizer), **result, **mix.summary()}


def start(
    model: ScratchModel | PretrainedModel, config: PretrainConfig, mined: str, train_problems: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, PromptStyle]:
    """The model, tokenizer and prompt style that training starts from; the same for the same arguments."""
    if isinstance(model, PretrainedModel):
        return load_start(model)
    tokenizer = train_tokenizer(_sample(mined, train_problems, config.seed), model.vocabulary)
    return new_policy(model, tokenizer, config.seed, config.context_tokens), tokenizer, SCRATCH_STYLE


def _sample(mined: str, train_problems: Path, seed: int) -> Iterator[str]:
    """Text for the tokenizer: all training problems as the model will see them, then as many characters of the corpus."""
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
