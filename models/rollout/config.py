"""Configs of sampling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mathquarry.data.config import HOW, Config, Positive, Share
from mathquarry.data.programs.config import ProgramsConfig


class RolloutConfig(Config):
    """How to sample answers. Sampling uses the whole distribution, without top-p (our choice; the paper says "nucleus sampling")."""

    engine: Literal["transformers", "vllm"] = Field("transformers", description="Engine that generates.")
    temperature: float = Field(1.0, ge=0, description="Sampling temperature (our choice).")
    max_tokens: Positive = Field(1024, description="Maximum completion length in tokens (paper: 1024).")
    batch_completions: Positive = Field(512, description="Completions generated at once by the transformers engine.")
    kv_cache_gib: float = Field(2.0, gt=0, description="Memory for vLLM's key-value cache on a CPU.")
    gpu_memory_share: Share = Field(
        0.45, description="Share of a GPU's memory for vLLM if it shares the GPU with a trainer. Without a trainer it uses all."
    )
    handover: Literal["shared", "folder", "ipc", "nccl", "adapter"] = Field(
        "shared",
        description="How GRPO sends new weights to the engine. `shared`: in the same process; `folder`: through files; `ipc`: to a vLLM "
        "process on the trainer's GPU; `nccl`: to a vLLM process on another GPU; `adapter` (with `grpo.lora`): only adapters, which vLLM "
        "applies to the weights that it started with (our choice).",
        json_schema_extra=HOW,
    )
    ahead: Literal[0, 1] = Field(
        0,
        description="In GRPO, 1 samples the next step's completions while the policy learns from this step's, one step off-policy "
        "(departure; needs `grpo.tis_cap`).",
    )
    tensor_parallel: Positive = Field(
        1,
        description="GPUs per vLLM engine, for models larger than one GPU. In `evaluate`, `rejection` and `reward` (our choice).",
        json_schema_extra=HOW,
    )
    sleep: bool = Field(False, description="vLLM frees its GPU memory while the policy trains, so its share can be larger (our choice).")

    @model_validator(mode="after")
    def _only_vllm_can(self) -> RolloutConfig:
        if self.handover in ("ipc", "nccl", "adapter") and self.engine != "vllm":
            raise ValueError(f"handover is `{self.handover}`, which needs engine `vllm`; with `{self.engine}` use `shared` or `folder`")
        if self.tensor_parallel > 1 and self.engine != "vllm":
            raise ValueError(f"tensor_parallel is {self.tensor_parallel}, which needs engine `vllm`; `{self.engine}` uses one GPU")
        if self.ahead and self.sleep:
            raise ValueError("ahead is 1, so the engine samples while the policy learns, and sleep is true: set one of them back")
        return self


class ToolsConfig(Config):
    """Tool-integrated rollouts: the model writes programs, the sandbox runs them, and the model reads their output."""

    max_calls: Positive = Field(3, description="Maximum programs per answer. An answer with more is truncated (ToRA: 3).")
    output_tokens: Annotated[int, Field(ge=16)] = Field(
        256, description="Maximum tokens of one program's output. The rest is cut out (our choice)."
    )
    programs: ProgramsConfig = ProgramsConfig()
