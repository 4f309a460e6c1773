"""Rollouts with vLLM, in this process. The only file that imports vLLM; only its public calls are used.

Weights arrive as a folder of safetensors and are reloaded in place: one way for a CPU and a GPU, for a checkpoint and for a live module.
What stands in the way of correct rollouts, and what is done about it:
1. reloading a model with tied embeddings leaves the old language-model head in place: the model is served untied, and every folder that is
   loaded must hold an `lm_head.weight` of its own;
2. the prefix cache survives a reload: every request is salted with the version of the weights;
3. by default log-probabilities ignore the temperature: `processed_logprobs` are asked for;
4. one seed s gives n samples the seeds s, s + 1, ..., which are a neighbour's too: seeds are mixed first;
5. on a CPU, vLLM replaces `torch.set_num_threads` by a function that does nothing: it is put back, and so is the number of threads;
6. on a CPU, a seeded request whose prompt is computed in two pieces stops the engine (`CPU Generator does not use offset`): prompts are
   computed whole;
7. torch.distributed stays initialised, with one rank, until `close`. Code beside this engine must not take that for a distributed run;
8. beside other ranks, each has an engine of its own in their process group, on its own GPU, and `close` ends that group: it comes after the
   last collective.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, PreTrainedModel

from data.errors import MathQuarryError
from data.files import disk_error, read_json
from data.workspace import Bar
from models.checkpoint import untie
from models.config import RolloutConfig
from models.rollout.engine import HeldTensor, Output, Stop, budgets, context_limit, folder_end_tokens
from models.rollout.weight_check import project, signs, weigh_rows
from models.seeds import derive_seed

# Before vLLM is imported: run inside this process, send no usage reports, print errors only.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# vLLM looks at every name in torch.distributed, the retired ones too; nothing a user could mend.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")

_set_num_threads = torch.set_num_threads

try:
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.sampling_params import RequestOutputKind
except ImportError as error:
    raise MathQuarryError(
        f"rollout.engine is `vllm`, but vLLM cannot be imported ({error}). Run `make vllm`, or set rollout.engine to `transformers`."
    ) from error

CPU_BLOCK_TOKENS = 32
"""Samples of a question share whole blocks of its prompt. The CPU build's default of 128 is longer than most questions."""

PREFILL_TOKENS = 4096
"""Prompt tokens computed in one step on a CPU, or one prompt if it is longer."""

MEMORY_FOLDER = Path("/dev/shm")
HEAD = "lm_head.weight"


class VLLMEngine:
    """A `RolloutEngine` on vLLM: one GPU in bfloat16, or the CPU build in float32."""

    def __init__(self, config: RolloutConfig, model_dir: Path) -> None:
        """Start vLLM (about ten seconds, more on a GPU) with a checkpoint.

        Raises `MathQuarryError` when the checkpoint has no head of its own, or when vLLM does not start, for want of memory for example.
        """
        _require_head(model_dir)
        self._config = config
        self._ends = folder_end_tokens(model_dir)
        self._loads = 0
        launcher = {"distributed_executor_backend": "external_launcher"} if torch.distributed.is_initialized() else {}
        threads = torch.get_num_threads()
        options: dict[str, Any]
        if torch.cuda.is_available():
            options = {"dtype": "bfloat16", "gpu_memory_utilization": config.gpu_memory_share, "enable_sleep_mode": config.sleep}
        else:
            options = {
                "dtype": "float32",
                # Eager and with a given cache size, the CPU build starts without a warm-up run.
                "enforce_eager": True,
                "kv_cache_memory_bytes": int(config.kv_cache_gib * 2**30),
                "block_size": CPU_BLOCK_TOKENS,
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(
                    PREFILL_TOKENS, context_limit(AutoConfig.from_pretrained(model_dir, trust_remote_code=False)) or 0
                ),
            }
        try:
            self._llm = LLM(
                model=str(model_dir),
                trust_remote_code=False,
                skip_tokenizer_init=True,
                max_model_len=-1,  # as much of the model's context as fits in the cache
                max_num_seqs=config.batch_outputs,
                logprobs_mode="processed_logprobs",
                hf_overrides={"tie_word_embeddings": False},
                use_tqdm_on_load=False,
                **launcher,
                **options,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise MathQuarryError(
                f"vLLM does not start with {model_dir}: {error} Look at rollout.kv_cache_gib (CPU) and rollout.gpu_memory_share (GPU), "
                "or set rollout.engine to `transformers`."
            ) from error
        finally:
            torch.set_num_threads = _set_num_threads
            torch.set_num_threads(threads)
        self.limit: int | None = self._llm.model_config.max_model_len
        self._salt = "0:start"
        self._asleep = False

    def load(self, model_dir: Path, version: str) -> None:
        """See `RolloutEngine.load`. Raises `MathQuarryError` when the folder has no head of its own."""
        _require_head(model_dir)
        self._wake()
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(model_dir)})
        self._loads += 1
        self._salt = f"{self._loads}:{version}"

    def load_live(self, model: PreTrainedModel, version: str) -> None:
        """See `RolloutEngine.load_live`. The weights go through a folder in memory if it has room, else through the temporary folder."""
        size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        roomy = MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free > 2 * size
        with tempfile.TemporaryDirectory(prefix="mathquarry-", dir=MEMORY_FOLDER if roomy else None) as name:
            try:
                _untied(model).save_pretrained(name)
            except OSError as error:
                raise disk_error(error, Path(name)) from error
            self.load(Path(name), version)

    def generate(
        self,
        prompts: list[list[int]],
        *,
        n: int,
        temperature: float,
        max_tokens: int | Sequence[int],
        seeds: list[int],
        progress: Bar | None = None,
        stop: Stop | None = None,
    ) -> list[list[Output]]:
        """See `RolloutEngine.generate`.

        vLLM pauses at every token of `stop`; where the stop does not hold, the output goes on as a new request, most of which is in the
        prefix cache.
        """
        rooms = budgets(prompts, max_tokens, self.limit)
        self._wake()
        copies = n if temperature == 0 else 1
        pauses = sorted(stop.tokens) if stop else []
        bar = False if progress is None else _Relay.to(progress, copies)
        groups = self._sample(prompts, n // copies, temperature, rooms, [_mixed(seed) for seed in seeds], pauses, bar)
        if stop is not None:
            paused = [(place, sample) for place, group in enumerate(groups) for sample in range(len(group))]
            while paused := [(place, sample) for place, sample in paused if _goes_on(groups[place][sample], rooms[place], stop)]:
                outputs = [groups[place][sample] for place, sample in paused]
                more = self._sample(
                    [prompts[place] + groups[place][sample].tokens for place, sample in paused],
                    1,
                    temperature,
                    [rooms[place] - len(groups[place][sample].tokens) for place, sample in paused],
                    [derive_seed(seeds[place], sample, len(groups[place][sample].tokens)) for place, sample in paused],
                    pauses,
                    False,
                )
                for output, (rest,) in zip(outputs, more, strict=True):
                    output.tokens += rest.tokens
                    output.logprobs += rest.logprobs
                    output.finished = rest.finished
        return [group * copies for group in groups]

    def _sample(
        self, prompts: list[list[int]], n: int, temperature: float, rooms: list[int], seeds: list[int], pauses: list[int], bar: Any
    ) -> list[list[Output]]:
        """Outputs up to an end token, a token of `pauses`, or the prompt's room."""
        params = [
            SamplingParams(
                n=n,
                temperature=temperature,
                max_tokens=room,
                seed=seed if temperature > 0 else None,
                stop_token_ids=self._ends + pauses,
                logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            for seed, room in zip(seeds, rooms, strict=True)
        ]
        self._llm.enqueue([self._request(prompt) for prompt in prompts], params, use_tqdm=False)
        answers = self._llm.wait_for_completion(RequestOutput, use_tqdm=bar)
        return [
            [Output(list(one.token_ids), _chosen(one.logprobs), one.token_ids[-1] in self._ends) for one in answer.outputs]
            for answer in answers
        ]

    def logprobs(self, prompts: list[list[int]], outputs: list[list[int]]) -> list[list[float]]:
        """See `RolloutEngine.logprobs`."""
        whole = [prompt + output for prompt, output in zip(prompts, outputs, strict=True)]
        budgets(whole, 1, self.limit)
        self._wake()
        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False)
        answers = self._llm.generate([self._request(tokens) for tokens in whole], params, use_tqdm=False)
        # The first token of a sequence has no log-probability, so the list is one shorter.
        return [_chosen(answer.prompt_logprobs)[len(prompt) - 1 :] for prompt, answer in zip(prompts, answers, strict=True)]

    def held_weights(self, trained: PreTrainedModel) -> list[HeldTensor]:
        """See `RolloutEngine.held_weights`. Layers whose weights the CPU build has packed away are asked through their forward pass."""
        return self._llm.apply_model(_held)[0]

    def rest(self) -> None:
        """See `RolloutEngine.rest`. With `rollout.sleep`, weights move to main memory and the cache is dropped; on a CPU nothing moves."""
        if self._config.sleep and not self._asleep:
            # Not level 2, which forgets the weights: vLLM would then answer with those it was started with.
            self._llm.sleep(level=1)
            self._asleep = True

    def _wake(self) -> None:
        if self._asleep:
            self._llm.wake_up()
            self._asleep = False

    def close(self) -> None:
        """See `RolloutEngine.close`. torch.distributed is no longer initialised then."""
        del self._llm
        cleanup_dist_env_and_memory()

    def _request(self, tokens: list[int]) -> Any:
        return {"prompt_token_ids": tokens, "cache_salt": self._salt}


class _Relay:
    """Stands in for the progress bar that vLLM makes, and passes its counts on to ours."""

    def __init__(self, bar: Bar, copies: int) -> None:
        self._bar, self._copies, self._started = bar, copies, time.monotonic()
        self.n = 0
        self.postfix = ""

    @classmethod
    def to(cls, bar: Bar, copies: int) -> Any:
        """A factory, called by vLLM with the options of its bar."""
        return lambda **options: cls(bar, copies)

    @property
    def format_dict(self) -> dict[str, float]:
        return {"elapsed": max(time.monotonic() - self._started, 1e-6)}

    def update(self, count: int) -> None:
        self.n += count
        self._bar.advance(count * self._copies)

    def refresh(self) -> None: ...

    def close(self) -> None: ...


def _chosen(logprobs: Any) -> list[float]:
    """Log-probability of the token that stands at each position: the first of vLLM's entries for it."""
    entries = zip(logprobs.start_indices, logprobs.end_indices, strict=True)
    return [logprobs.logprobs[start] for start, end in entries if end > start]


def _held(model: torch.nn.Module) -> list[HeldTensor]:
    packs = getattr(model, "packed_modules_mapping", {})
    return [
        HeldTensor(_parts(f"{place}.{name}", packs), parameter.dtype, *_projection(module, parameter))
        for place, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
    ]


def _parts(name: str, packs: dict[str, list[str]]) -> tuple[str, ...]:
    """The checkpoint's names of what vLLM keeps under one name."""
    *outer, module, parameter = name.split(".")
    return tuple(".".join([*outer, part, parameter]) for part in packs.get(module, [module]))


def _projection(module: Any, parameter: torch.Tensor) -> tuple[float, bool]:
    """The projection of a layer's weight, and whether it is exact."""
    if parameter.numel():
        return project(parameter), True
    signs_1D = signs(module.input_size, parameter.device).to(parameter.dtype)[None]
    with torch.inference_mode():
        sums_N = module.quant_method.apply(module, signs_1D, None)[0]
    return weigh_rows(sums_N), False


def _goes_on(output: Output, room: int, stop: Stop) -> bool:
    """Whether a paused output is to go on; marks it as stopped where the stop holds."""
    output.stopped = not output.finished and output.tokens[-1] in stop.tokens and stop.holds(output.tokens)
    return not (output.finished or output.stopped) and len(output.tokens) < room


def _mixed(seed: int) -> int:
    """A seed far from the mixed seeds of its neighbours, with room for adding a sample's number."""
    return int(np.random.SeedSequence(seed & 0xFFFF_FFFF_FFFF_FFFF).generate_state(1, np.uint64)[0] >> np.uint64(2))


def _untied(model: PreTrainedModel) -> PreTrainedModel:
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        return model
    model = copy.deepcopy(model)
    untie(model)
    return model


def _require_head(model_dir: Path) -> None:
    """Refuse a folder whose head is only in its embeddings: it would be served with whatever head was there before."""
    if (model_dir / "model.safetensors.index.json").exists():
        names = set(read_json(model_dir / "model.safetensors.index.json")["weight_map"])
    elif (model_dir / "model.safetensors").exists():
        with safe_open(model_dir / "model.safetensors", "pt") as file:
            names = set(file.keys())
    else:
        raise MathQuarryError(f"{model_dir} holds no model.safetensors; vLLM needs a checkpoint folder that a stage has written.")
    if HEAD not in names and AutoConfig.from_pretrained(model_dir, trust_remote_code=False).tie_word_embeddings:
        raise MathQuarryError(f"{model_dir} has tied embeddings and no {HEAD} of its own. Save it once more with models.checkpoint.save.")
