"""Formulas for the memory of training and sampling on a GPU, in bytes. Importable without torch.

docs/planning.md explains them. `mathquarry.models.plan.check` compares them with the real code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mathquarry.models.card import SLICE_ROWS, card_memory, chunk_logits
from mathquarry.models.config import Precision
from mathquarry.models.policy.config import LoRAConfig, PretrainedModel, ScratchModel
from mathquarry.models.reward.config import RewardConfig
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mathquarry.models.rl.config import GRPOConfig

WEIGHT_BYTES = 4
"""A weight in a checkpoint or in the trainer, or its gradient: float32."""
MOMENT_BYTES = 8
"""The two AdamW moments of a weight."""
HALF_BYTES = 2
"""A weight or activation in bfloat16."""
PASS_SHARE = 0.15
"""Share of a GPU's memory for a forward pass if the config gives no number of tokens."""
CPU_PASS_TOKENS = 16_384
ENGINE_BYTES = 3e9
"""Memory of vLLM besides weights and cache: activations of a step, captured graphs, its CUDA context (our estimate)."""
LEAST_PASS_TOKENS, MOST_PASS_TOKENS = 1024, 65_536


@dataclass(frozen=True)
class Shape:
    """The dimensions that decide a model's cost: a Llama with its own output head (tied heads are untied before training)."""

    layers: float
    hidden: float
    intermediate: float
    vocabulary: float
    query: float
    """Number of heads times their size."""
    key: float
    """Number of key heads (or value heads) times their size."""

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Return the shape in a Hugging Face config."""
        text = config.get_text_config()
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        heads = text.num_attention_heads
        return cls(
            text.num_hidden_layers,
            text.hidden_size,
            text.intermediate_size,
            text.vocab_size,
            heads * size,
            (getattr(text, "num_key_value_heads", None) or heads) * size,
        )

    @classmethod
    def planned(cls, model: ScratchModel | PretrainedModel) -> Shape:
        """Return the shape of a recipe's model. If a pretrained model gives only `parameters` (or nothing: 0), assume a hidden size of 128
        per layer, 12 layers hidden^2 weights, and no vocabulary."""
        if isinstance(model, ScratchModel):
            return cls(model.layers, model.hidden, model.intermediate, model.vocabulary, model.hidden, model.hidden)
        if model.shape is None:
            layers = ((model.parameters or 0.0) / (12 * 128**2)) ** (1 / 3)
            hidden = 128 * layers
            return cls(layers, hidden, 8 / 3 * hidden, 0.0, hidden, hidden)
        shape = model.shape
        size = shape.head_size or shape.hidden / shape.heads
        key = (shape.kv_heads or shape.heads) * size
        return cls(shape.layers, shape.hidden, shape.intermediate, shape.vocabulary, shape.heads * size, key)

    @property
    def block(self) -> float:
        """Weights of one block."""
        return self.hidden * (2 * self.query + 2 * self.key + 3 * self.intermediate + 2)

    @property
    def outside(self) -> float:
        """Weights outside the blocks: embeddings, head, last norm."""
        return (2 * self.vocabulary + 1) * self.hidden

    @property
    def weights(self) -> float:
        """All weights."""
        return self.layers * self.block + self.outside

    def adapters(self, lora: LoRAConfig) -> float:
        """Weights of the adapters in one block: A and B of each matrix that gets an adapter."""
        h, q, k, i = self.hidden, self.query, self.key, self.intermediate
        widths = {
            "q_proj": h + q,
            "k_proj": h + k,
            "v_proj": h + k,
            "o_proj": h + q,
            "gate_proj": h + i,
            "up_proj": h + i,
            "down_proj": h + i,
        }
        chosen = widths if lora.target_modules == "all-linear" else lora.target_modules
        return lora.rank * sum(widths.get(name, 0.0) for name in chosen)

    def trained(self, lora: LoRAConfig) -> float:
        """Number of trained weights: all of them, or those of the adapters."""
        return self.layers * self.adapters(lora) if lora.rank else self.weights

    @property
    def cache_bytes(self) -> float:
        """Keys and values of one token, in bfloat16."""
        return 2 * self.layers * self.key * HALF_BYTES

    def forward_flops(self, context: float) -> float:
        """FLOPs of one token's forward pass: 2 per weight, plus causal attention over half of `context` tokens on average."""
        return 2 * self.weights + 2 * self.layers * self.query * context

    def train_flops(self, context: float, *, adapters: bool = False, recompute: bool = False) -> float:
        """FLOPs of one token's forward and backward pass: three times the forward pass, or twice if only adapters have weight gradients,
        and one more forward pass if activations are recomputed."""
        return ((2 if adapters else 3) + recompute) * self.forward_flops(context)


def kept_bytes(shape: Shape, precision: Precision) -> float:
    """Bytes that a block saves per token for its backward pass, including its input."""
    h, q, k, i = shape.hidden, shape.query, shape.key, shape.intermediate
    if precision == "float32":
        return 4 * (7 * h + 2 * q + 2 * k + 4 * i)
    return 26 * h + 4 * q + 4 * k + 8 * i


def pass_bytes(shape: Shape, precision: Precision, recompute: bool) -> float:
    """Bytes that all blocks save per token. With recomputation: their inputs, and the inside of one block."""
    if not recompute:
        return shape.layers * kept_bytes(shape, precision)
    return 4 * shape.hidden * shape.layers + kept_bytes(shape, precision) + _spent_bytes(shape, precision)


def _spent_bytes(shape: Shape, precision: Precision) -> float:
    """Peak bytes of gradients per token inside a block."""
    return (4 if precision == "float32" else 2) * 2 * shape.intermediate + 4 * shape.hidden


@dataclass(frozen=True)
class Trained:
    """How a model is trained on `ranks` GPUs. `head`: it has a language-model head (a reward model's head is too small to count).

    `lora`: if its rank is not 0, adapters are trained; the other weights have precision `beside`.
    """

    shape: Shape
    ranks: int
    precision: Precision
    recompute: bool
    offload: bool
    head: bool = True
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    beside: Precision = "float32"
    gathered_keys: float = 0.0
    """Keys that attention by spans copies for each token of a pass, because completions share their prompt's."""

    @property
    def _outside(self) -> float:
        """Bytes of the weights outside the blocks that are gathered."""
        table = self.shape.vocabulary * self.shape.hidden
        if self.lora.rank:
            return WEIGHT_BYTES * (table + self.shape.hidden) + (_width(self.beside) * table if self.head else 0.0)
        return (self.shape.outside if self.head else table + self.shape.hidden) * WEIGHT_BYTES

    @property
    def weights(self) -> float:
        """Number of trained weights."""
        if self.lora.rank:
            return self.shape.trained(self.lora)
        return self.shape.layers * self.shape.block + self._outside / WEIGHT_BYTES

    @property
    def rest(self) -> float:
        """Bytes between two steps: weights and moments."""
        frozen = frozen_bytes(self.shape, self.beside, self.ranks, self.head) if self.lora.rank else 0.0
        return frozen + (WEIGHT_BYTES + (0 if self.offload else MOMENT_BYTES)) * self.weights / self.ranks

    def step(self, tokens: float, card: float | None = None) -> float:
        """Peak bytes of a step whose forward passes have `tokens` tokens each, all with a label."""
        shape, half, adapted, width = self.shape, self.precision == "bfloat16", self.lora.rank > 0, _width(self.precision)
        head = WEIGHT_BYTES * shape.vocabulary * shape.hidden if self.head else 0.0
        block, learned = shape.block, shape.adapters(self.lora) if adapted else shape.block
        sharded = self.ranks > 1
        gathered = self._outside if sharded else 0.0
        inner = kept_bytes(shape, self.precision) + width * 2 * shape.key * self.gathered_keys
        inner += 7 * width * self.lora.rank  # the result of A is saved for B
        kept = tokens * (4 * shape.hidden * shape.layers if self.recompute else shape.layers * inner)
        inside = tokens * (_spent_bytes(shape, self.precision) + (inner if self.recompute else 0))
        # Without sharding, autocast keeps a copy of each weight for the backward pass. Weights in bfloat16 need no copy.
        copied = learned if adapted and self.beside == "bfloat16" else block
        copies = 0.0 if sharded or not half else HALF_BYTES * copied * (1 if self.recompute else shape.layers)
        chunks = 0.0
        if self.head:
            rows = min(tokens, chunk_logits(card) / max(1.0, shape.vocabulary))
            # Logits in float32. In bfloat16 passes, also as bfloat16 factors, and the product of a slice.
            chunks = rows * (6 * shape.vocabulary + 4 * min(SLICE_ROWS, shape.vocabulary) if half else 4 * shape.vocabulary)
        # A head that is not trained has no gradient. In bfloat16 it needs no copy either.
        head_gradient = 0.0 if adapted else head
        head_copy = HALF_BYTES / WEIGHT_BYTES * head if half and not (adapted and self.beside == "bfloat16") else 0.0
        at_head = gathered + head_gradient + head_copy + chunks + kept + 8 * shape.hidden * tokens
        at_head += copies if not self.recompute else 0
        at_block = gathered + (head_gradient if sharded else 0) + kept + inside + copies
        at_block += 2 * width * block + WEIGHT_BYTES * learned if sharded else 0
        at_end = 0.0 if adapted else 2 * gathered
        gradients = WEIGHT_BYTES * self.weights / self.ranks
        return self.rest + gradients + max(at_head, at_block, at_end)


def _width(precision: Precision) -> int:
    """Bytes per weight."""
    return HALF_BYTES if precision == "bfloat16" else WEIGHT_BYTES


def frozen_bytes(shape: Shape, precision: Precision, ranks: int, head: bool) -> float:
    """Bytes of a model that is not trained: matrices in the precision of its passes, embeddings in float32."""
    width = _width(precision)
    table = shape.vocabulary * shape.hidden
    return (width * (shape.layers * shape.block + (table if head else 0)) + WEIGHT_BYTES * table) / ranks


def pass_tokens(config: GRPOConfig, model: PreTrainedModel) -> int:
    """Return `config.micro_batch_tokens`, or if it is not set, the number of tokens that fit on the model's GPU."""
    return config.micro_batch_tokens or default_pass_tokens(config, Shape.of(model.config), card_memory(model.device))


def default_pass_tokens(config: GRPOConfig, shape: Shape, card: float | None) -> int:
    """Number of tokens whose forward pass takes `PASS_SHARE` of a GPU, rounded down to a multiple of 1024."""
    if card is None:
        return CPU_PASS_TOKENS
    tokens = PASS_SHARE * card / max(1.0, pass_bytes(shape, config.precision, config.gradient_checkpointing))
    return int(min(MOST_PASS_TOKENS, max(LEAST_PASS_TOKENS, tokens)) // 1024 * 1024)


@dataclass(frozen=True)
class Engine:
    """vLLM's share of a GPU: weights in bfloat16, working memory, and the rest for keys and values."""

    shape: Shape
    share: float
    """Bytes that the engine may use."""

    @property
    def least(self) -> float:
        """Bytes that it needs before it can hold one token."""
        return HALF_BYTES * self.shape.weights + ENGINE_BYTES

    @property
    def cache_tokens(self) -> float:
        """Tokens that fit into its cache; 0 if not even the weights fit."""
        return max(0.0, self.share - self.least) / max(1.0, self.shape.cache_bytes)


def supervised_memory(config: TrainConfig, shape: Shape, card: float | None) -> float:
    """Peak bytes per GPU of a stage that trains with `fit`; of its tensors on a CPU, if `card` is `None`."""
    ranks, recompute, precision = config.ranks.size, config.gradient_checkpointing, config.precision
    head = not isinstance(config, RewardConfig)
    trained = Trained(shape, ranks, precision, recompute, config.optimizer.offload, head, config.lora, precision)
    return trained.step(config.micro_batch_rows * config.context_tokens, card)


def grpo_step(config: GRPOConfig, shape: Shape, card: float | None) -> tuple[float, float]:
    """Bytes per GPU of the trainer of a GRPO stage: while the engine samples, and at the peak of a step. Both include `engine_copy`."""
    ranks, recompute, beside = config.ranks.size, config.gradient_checkpointing, config.precision_beside_adapters
    # A group shares its prompt, which is assumed to be as long as a completion. Each completion gathers the prompt's keys and its own.
    gathered = 2 / (1 + 1 / config.group_size) if config.attn_implementation == "documents" else 0.0
    trained = Trained(shape, ranks, config.precision, recompute, config.optimizer.offload, True, config.lora, beside, gathered)
    frozen = 0.0 if config.lora.rank else frozen_bytes(shape, config.precision, ranks, head=True)
    if config.scored_by_model:
        frozen += frozen_bytes(shape, config.precision, ranks, head=False)
    frozen += engine_copy(config, shape)
    step = trained.step(config.micro_batch_tokens or default_pass_tokens(config, shape, card), card)
    return trained.rest + frozen, step + frozen


def grpo_card(config: GRPOConfig, shape: Shape, card: float | None) -> float:
    """Bytes per GPU of a GRPO stage with the engine. If that sleeps during training, the larger of the trainer's peak and of sampling."""
    rest, step = grpo_step(config, shape, card)
    share = engine_share(config.rollout, card)
    return max(step, rest + share) if config.rollout.sleep else step + share


def engine_copy(config: GRPOConfig, shape: Shape) -> float:
    """Bytes per GPU of the transformers engine's own weights. On one rank it generates with the trainer's, unless it samples ahead."""
    own = config.rollout.engine == "transformers" and not config.trainer_generates
    return HALF_BYTES * shape.weights if own else 0.0


def engine_share(config: RolloutConfig, card: float | None) -> float:
    """Bytes of a GPU that vLLM takes besides the trainer. The transformers engine has no such share, but maybe an `engine_copy`."""
    return config.gpu_memory_share * card if config.engine == "vllm" and card is not None else 0.0
