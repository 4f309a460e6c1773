"""Rollouts with vLLM, in this process. Uses only vLLM's public calls. Other modules that import vLLM are in `handover/`.

Weights arrive as a folder of safetensors or tensor by tensor, and are reloaded in place, in the same way on a CPU and a GPU.
Problems for correct rollouts, and their solutions:
1. reloading a model with tied embeddings keeps the old language-model head: the model is served untied, and loaded weights must include
   `lm_head.weight`;
2. the prefix cache survives a reload: every request is salted with the version of the weights;
3. by default log-probabilities ignore the temperature: `processed_logprobs` are requested;
4. for n samples, one seed s becomes the seeds s, s + 1, ..., which can be another prompt's seeds: seeds are mixed first;
5. on a CPU, vLLM replaces `torch.set_num_threads` with a function that does nothing: it is restored, with the number of threads;
6. on a CPU, a seeded request whose prompt is computed in two parts stops the engine (`CPU Generator does not use offset`): prompts are
   computed in one part;
7. torch.distributed stays initialised, with one rank, until `close`. Other code must not take that for a distributed run;
8. with several ranks, each has its own engine in their process group, on its own GPU, and `close` destroys that group: call it after the
   last collective;
9. adapters need base weights that are not sent again: the engine keeps these while it sleeps.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Bar
from mathquarry.models.policy.adapters import Adapters
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import Completion, HeldTensor, Stop, budgets, folder_end_tokens, require_all
from mathquarry.models.rollout.held import held_tensors
from mathquarry.models.rollout.seeds import derive_seed
from mathquarry.models.rollout.vllm_options import adapter_options, device_options, own_process
from mathquarry.models.rollout.vllm_requests import HEAD, ProgressRelay, chosen_logprobs, goes_on, mixed_seed, require_head, ticked
from mathquarry.models.rollout.weights import whole_tensors

# Before vLLM is imported: run in this process, send no usage reports, print only errors.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# vLLM reads every name in torch.distributed, including deprecated ones. Users cannot do anything about these warnings.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")

_set_num_threads = torch.set_num_threads

try:
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind
except ImportError as error:
    raise MathQuarryError(
        f"rollout.engine is `vllm`, but vLLM cannot be imported ({error}). Run `make vllm`, or set rollout.engine to `transformers`."
    ) from error

PROCESS_OF_ITS_OWN = ("ipc", "nccl")
"""Backends of vLLM's weight transfer that connect two processes."""


class VLLMEngine:
    """A `RolloutEngine` on vLLM: one GPU in bfloat16, or the CPU build in float32."""

    def __init__(
        self,
        config: RolloutConfig,
        model_dir: Path,
        *,
        alone: bool = False,
        transfer: str | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        """Start vLLM with a checkpoint (about ten seconds, more on a GPU).

        `alone`: it may use all memory of the GPU, and several GPUs. `transfer`: the backend of its weight transfer; with `ipc` and `nccl`,
        vLLM runs in its own process. `adapters`: it will get adapters (`take_adapters`) instead of weights.

        Raises `MathQuarryError` if the checkpoint has no weights of the head, or if vLLM does not start (for example, for lack of memory).
        """
        require_head(model_dir)
        self._config = config
        self._ends = folder_end_tokens(model_dir)
        self._loads = 0
        launcher: dict[str, Any] = {}
        if torch.distributed.is_initialized() and transfer not in PROCESS_OF_ITS_OWN:
            launcher = {"distributed_executor_backend": "external_launcher"}
        if alone and config.tensor_parallel > 1:
            launcher = {"distributed_executor_backend": "mp", "tensor_parallel_size": config.tensor_parallel}
        self._adapters = adapters
        self._adapter: LoRARequest | None = None
        threads = torch.get_num_threads()
        try:
            with own_process(transfer) if transfer in PROCESS_OF_ITS_OWN else nullcontext():
                self.llm = LLM(
                    model=str(model_dir),
                    trust_remote_code=False,
                    skip_tokenizer_init=True,
                    max_model_len=-1,  # as much of the model's context as fits into the cache
                    max_num_seqs=config.batch_completions,
                    logprobs_mode="processed_logprobs",
                    hf_overrides={"tie_word_embeddings": False},
                    use_tqdm_on_load=False,
                    weight_transfer_config={"backend": transfer} if transfer else None,
                    **launcher,
                    **adapter_options(adapters),
                    **device_options(config, model_dir, alone),
                )
        except (ValueError, RuntimeError, OSError) as error:
            raise MathQuarryError(
                f"vLLM does not start with {model_dir}: {error} Check rollout.kv_cache_gib (CPU) and rollout.gpu_memory_share (GPU), "
                "or set rollout.engine to `transformers`."
            ) from error
        finally:
            torch.set_num_threads = _set_num_threads
            torch.set_num_threads(threads)
        self.limit: int | None = self.llm.model_config.max_model_len
        self._salt = "0:start"
        self._asleep: set[str] = set()
        self._weights_forgotten = False

    @property
    def dtype(self) -> torch.dtype:
        """See `RolloutEngine.dtype`."""
        return torch.bfloat16 if torch.cuda.is_available() else torch.float32

    def load(self, model_dir: Path, version: str) -> None:
        """See `RolloutEngine.load`. Raises `MathQuarryError` if the folder has no weights of the head."""
        require_head(model_dir)
        with self.taking(version):
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(model_dir)})

    def receive(self, weights: Iterable[tuple[str, torch.Tensor]], version: str) -> None:
        """See `RolloutEngine.receive`. vLLM rebuilds layer by layer, so it holds one layer's tensors at a time.

        This only detects a missing head, which vLLM would keep from before. The weight check finds other missing weights.
        """
        missing = {HEAD}
        with self.taking(version):
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": ticked(weights, missing)})
        require_all(missing, version)

    def take_adapters(self, folder: Path | None, version: str) -> None:
        """Generate with the adapters in a folder (peft's format) and the weights that the engine started with; None: no adapters.

        The folder is read immediately. Raises `MathQuarryError` if vLLM does not accept them.
        """
        with self.taking(version):
            self._adapter = None
            if folder is not None:
                number = self._loads + 1  # vLLM identifies adapters by number
                adapter = LoRARequest(f"{number}:{version}", number, str(folder))
                try:
                    taken = self.llm.llm_engine.add_lora(adapter)
                except (ValueError, RuntimeError, OSError) as error:
                    raise MathQuarryError(f"vLLM rejects the adapters of {version}: {error}") from error
                if not taken:
                    raise MathQuarryError(f"vLLM did not load the adapters of {version}. Set rollout.handover to `shared`.")
                self._adapter = adapter

    @contextmanager
    def taking(self, version: str) -> Iterator[None]:
        """Allocate weights, but not the cache, and load new weights inside the block. Caches of other weights are not used afterwards."""
        self._wake_weights()
        yield
        self._weights_forgotten = False
        self._loads += 1
        self._salt = f"{self._loads}:{version}"

    def load_live(self, model: PreTrainedModel, version: str) -> None:
        """See `RolloutEngine.load_live`. Loads tensor by tensor, in this process."""
        self.receive(whole_tensors(model, self.dtype), version)

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
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`.

        vLLM pauses at every token of `stop`. If the stop does not hold, the completion continues as a new request, most of which is in the
        prefix cache.
        """
        rooms = budgets(prompts, max_tokens, self.limit)
        self._wake_up()
        copies = n if temperature == 0 else 1
        pauses = sorted(stop.tokens) if stop else []
        bar = False if progress is None else ProgressRelay.to(progress, copies)
        groups = self._sample(prompts, n // copies, temperature, rooms, [mixed_seed(seed) for seed in seeds], pauses, bar)
        if stop is not None:
            paused = [(place, sample) for place, group in enumerate(groups) for sample in range(len(group))]
            while paused := [(place, sample) for place, sample in paused if goes_on(groups[place][sample], rooms[place], stop)]:
                completions = [groups[place][sample] for place, sample in paused]
                more = self._sample(
                    [prompts[place] + groups[place][sample].tokens for place, sample in paused],
                    1,
                    temperature,
                    [rooms[place] - len(groups[place][sample].tokens) for place, sample in paused],
                    [derive_seed(seeds[place], sample, len(groups[place][sample].tokens)) for place, sample in paused],
                    pauses,
                    False,
                )
                for completion, (rest,) in zip(completions, more, strict=True):
                    completion.tokens += rest.tokens
                    completion.logprobs += rest.logprobs
                    completion.finished = rest.finished
        return [group * copies for group in groups]

    def _sample(
        self, prompts: list[list[int]], n: int, temperature: float, rooms: list[int], seeds: list[int], pauses: list[int], bar: Any
    ) -> list[list[Completion]]:
        """Generate completions up to an end token, a token of `pauses`, or the prompt's limit."""
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
        self.llm.enqueue([self._request(prompt) for prompt in prompts], params, lora_request=self._adapter, use_tqdm=False)
        answers = self.llm.wait_for_completion(RequestOutput, use_tqdm=bar)
        return [
            [Completion(list(one.token_ids), chosen_logprobs(one.logprobs), one.token_ids[-1] in self._ends) for one in answer.outputs]
            for answer in answers
        ]

    def logprobs(self, prompts: list[list[int]], completions: list[list[int]]) -> list[list[float]]:
        """See `RolloutEngine.logprobs`."""
        whole = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        budgets(whole, 1, self.limit)
        self._wake_up()
        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False)
        answers = self.llm.generate([self._request(tokens) for tokens in whole], params, lora_request=self._adapter, use_tqdm=False)
        # The first token of a sequence has no log-probability, so the list is one shorter.
        return [chosen_logprobs(answer.prompt_logprobs)[len(prompt) - 1 :] for prompt, answer in zip(prompts, answers, strict=True)]

    def held_weights(self, trained: PreTrainedModel) -> list[HeldTensor]:
        """See `RolloutEngine.held_weights`. If the CPU build has packed a layer's weights, its forward pass is used."""
        return self.llm.apply_model(partial(held_tensors, adapter_rank=self._adapters.rank if self._adapters and self._adapter else 0))[0]

    def sleep(self, *, weights_follow: bool) -> None:
        """See `RolloutEngine.sleep`. With `rollout.sleep` the cache is freed, and weights are dropped if others follow, else moved to
        pinned main memory. On a CPU nothing is freed."""
        if self._config.sleep and not self._asleep:
            forgets = weights_follow and self._adapters is None
            self.llm.sleep(level=2 if forgets else 1)
            self._asleep = {"weights", "kv_cache"}
            self._weights_forgotten = forgets

    def _wake_weights(self) -> None:
        """Allocate weights first: cache, old weights and new weights together may not fit on the GPU."""
        if "weights" in self._asleep:
            # vLLM cannot use the free memory that the trainer's allocator caches.
            torch.cuda.empty_cache()
            self.llm.wake_up(tags=["weights"])
            self._asleep = self._asleep - {"weights"}

    def _wake_up(self) -> None:
        self._wake_weights()
        if self._weights_forgotten:
            raise MathQuarryError(
                "the engine dropped its weights when it went to sleep, since new ones were to follow, but none were loaded. Load weights "
                "before generating, or set rollout.sleep to false."
            )
        if self._asleep:
            torch.cuda.empty_cache()
            self.llm.wake_up(tags=["kv_cache"])
            self._asleep = set()

    def close(self) -> None:
        """See `RolloutEngine.close`. Afterwards torch.distributed is not initialised."""
        del self.llm
        cleanup_dist_env_and_memory()

    def _request(self, tokens: list[int]) -> Any:
        return {"prompt_token_ids": tokens, "cache_salt": self._salt}
