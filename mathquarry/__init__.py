"""MathQuarry: from a web crawl to a language model that reasons about mathematics (DeepSeekMath, arXiv 2402.03300).

What a notebook needs. Each name is imported when it is first used, so `import mathquarry` loads no library:

- `mine(config, crawl, problems, workspace)`: mathematical pages of a crawl, in rounds (paper section 2.1);
- `finetune(config, base, examples, workspace)`: supervised fine-tuning on solutions (section 3);
- `train_reward(config, start, policy, problems, workspace)`: a reward model (sections 4.1.2 and 4.1.3);
- `grpo(config, policy, reward, problems, iteration, workspace)`: one iteration of reinforcement learning (section 4.1);
- `evaluate(config, policy, problems, workspace)`: greedy accuracy, Pass@K and Maj@K of a policy;
- `Workspace`: the folders that such a function writes to;
- `Store`, `Ledger`: the artifacts of runs, and the database about them.

Each function writes its result to `workspace.out` and returns a summary. The configs are next to the functions, for example
`mathquarry.models.rl.config.GRPOConfig`. Examples: docs/library.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mathquarry.data.ledger.ledger import Ledger as Ledger
    from mathquarry.data.mine.loop import mine as mine
    from mathquarry.data.store.store import Store as Store
    from mathquarry.data.store.workspace import Workspace as Workspace
    from mathquarry.models.evaluate.evaluate import evaluate as evaluate
    from mathquarry.models.reward.stage import train_reward as train_reward
    from mathquarry.models.rl.grpo import grpo_iteration as grpo
    from mathquarry.models.train.sft import finetune as finetune

_HOMES = {
    "Ledger": "mathquarry.data.ledger.ledger:Ledger",
    "Store": "mathquarry.data.store.store:Store",
    "Workspace": "mathquarry.data.store.workspace:Workspace",
    "evaluate": "mathquarry.models.evaluate.evaluate:evaluate",
    "finetune": "mathquarry.models.train.sft:finetune",
    "grpo": "mathquarry.models.rl.grpo:grpo_iteration",
    "mine": "mathquarry.data.mine.loop:mine",
    "train_reward": "mathquarry.models.reward.stage:train_reward",
}
__all__ = ["Ledger", "Store", "Workspace", "evaluate", "finetune", "grpo", "mine", "train_reward"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mathquarry' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
