"""What `make gpu-image-test` runs inside the GPU image, on a host without a GPU: the libraries, then `tiny` up to its first stage
with a model, at small sizes, on the CPU. Raises where something is missing; prints what it saw."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

LIBRARIES = ["torch", "triton", "transformers", "flashinfer", "vllm", "prefect", "duckdb", "resiliparse"]


def libraries() -> None:
    """Every library that a GPU stage needs, and CUDA in the builds that should have it."""
    for name in LIBRARIES:
        start = time.monotonic()
        importlib.import_module(name)
        version = importlib.metadata.version("flashinfer-python" if name == "flashinfer" else name)
        print(f"{name} {version} ({time.monotonic() - start:.0f} s to import)", flush=True)
    import torch
    from torch.nn.attention.flex_attention import flex_attention  # noqa: F401

    assert torch.version.cuda, f"torch {torch.__version__} was built without CUDA"
    assert "sm_90" in torch._C._cuda_getArchFlags().split(), "torch has no kernels for an H100"
    # What it would load on a GPU, and cannot without a driver, is there.
    vllm = Path(sysconfig.get_paths()["purelib"]) / "vllm"
    for library in ("_C_stable_libtorch.abi3.so", "vllm_flash_attn/_vllm_fa2_C.abi3.so", "vllm_flash_attn/_vllm_fa3_C.abi3.so"):
        assert (vllm / library).exists(), f"vLLM has no {library}"
    importlib.import_module("mathquarry.models.rollout.vllm")
    # FlashInfer and torch.compile build kernels with these.
    for tool in (f"{os.environ['CUDA_HOME']}/bin/nvcc", "g++"):
        assert shutil.which(tool), f"there is no {tool}"
    print(f"CUDA {torch.version.cuda}, a GPU at hand: {torch.cuda.is_available()}", flush=True)


def stages() -> None:
    """`mathquarry stages`, as a user calls it."""
    listed = subprocess.run(["mathquarry", "stages"], capture_output=True, text=True, check=True).stdout
    assert "grpo" in listed, listed
    print(f"mathquarry stages: {sum('needs:' in line for line in listed.splitlines())}", flush=True)


def pretraining() -> None:
    """Stage `pretrain` of `tiny` with a hundredth of its tokens, and the stages before it."""
    from mathquarry.flows.recipe import load_recipe
    from mathquarry.tasks.crawl import crawl
    from mathquarry.tasks.mine import mine
    from mathquarry.tasks.pretrain import pretrain
    from mathquarry.tasks.problems import problems

    smaller = [
        "problems.source.train=200",
        "problems.source.test=20",
        "crawl.source.pages=400",
        "crawl.source.domains=16",
        "crawl.source.warc_files=2",
        "crawl.source.near_duplicates=10",
        "crawl.source.url_duplicates=5",
        "crawl.source.contaminated=5",
        "mine.seed_pages.positives=60",
        "mine.seed_pages.negatives=60",
        "mine.token_budgets=[20000, 40000]",
        "mine.max_rounds=2",
        "pretrain.total_tokens=16384",
    ]
    recipe, store = load_recipe("tiny", smaller), os.environ["MATHQUARRY_STORE"]
    asked = problems.fn(store, recipe.problems)
    crawled = crawl.fn(store, recipe.crawl, asked.ref)
    mined = mine.fn(store, recipe.mine, crawled.ref, asked.ref)
    made = pretrain.fn(store, recipe.model, recipe.pretrain, mined.ref, asked.ref)
    assert made.summary["tokens"] >= 16384, made.summary
    print(f"{made.ref}: {made.summary['tokens']} tokens in {made.seconds:.0f} s, loss {made.summary['loss']:.2f}", flush=True)


if __name__ == "__main__":
    libraries()
    stages()
    pretraining()
    sys.exit(0)
