"""Flows `import` and `import-corpus`: make an artifact from an external model or external text."""

from __future__ import annotations

from typing import Literal

import mathquarry.tasks.imports
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import stage_flow
from mathquarry.tasks.stage import StageResult


@stage_flow("import", mathquarry.tasks.imports.import_model)
def import_flow(
    store: str,
    path: str,
    holds: Literal["policy", "reward"],
    chat_template: Literal["own", "paper"] | None = None,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Make an artifact from an external model.

    Args:
        store: Folder or fsspec URL of the artifacts.
        path: Hugging Face folder, `.gguf` file, or hub name with or without `@revision`.
        holds: policy: a causal language model; reward: a token classifier with one label.
        chat_template: own: its tokenizer's; paper: the paper's; none: its own, if it has one.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.imports.import_model(store, path, holds, chat_template, mode)


@stage_flow("import-corpus", mathquarry.tasks.imports.import_corpus)
def import_corpus_flow(store: str, path: str, mode: BuildMode = "reuse") -> StageResult:
    """Make an artifact from external text, to pretrain on instead of a mined corpus.

    Args:
        store: Folder or fsspec URL of the artifacts.
        path: JSONL or Parquet with a column `text`, a glob or URL of them, or `hf://owner/name:config:split`.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.imports.import_corpus(store, path, mode)
