"""Look at what the policy wrote and what it was told: `python docs/examples/read_a_rollout.py STORE [STEP]` after any run with GRPO.

Every sampled completion of every step is a row of the artifact's rollouts.parquet: text, rewards of its steps, advantages, verdict.
"""

from __future__ import annotations

import sys
from collections import Counter

import pyarrow.parquet as pq

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Store


def main(store: str, step: int = 1) -> None:
    """The group of one question in a step of the newest GRPO artifact, best reward first."""
    shop = Store(store)
    (newest,) = Ledger(shop).query("select key from artifacts where stage = 'grpo' order by created desc limit 1")
    rollouts = pq.read_table(shop.get("grpo", newest["key"]).path / "rollouts.parquet").to_pylist()
    group = [row for row in rollouts if row["step"] == step and row["group"] == 0]
    print(f"grpo/{newest['key']}, step {step}: {group[0]['question']} (answer: {group[0]['gold']})")
    times = Counter(row["text"] for row in group)
    different = {row["text"]: row for row in group}.values()
    for row in sorted(different, key=lambda row: row["reward"], reverse=True):
        steps = ", ".join(f"{reward:.2f}" for reward in row["step_rewards"]) or "none"
        print(
            f"\n{times[row['text']]} times, {'right' if row['correct'] else 'wrong'}, reward {row['reward']:.2f}, rewards of steps {steps}"
        )
        print(f"advantages {min(row['advantage']):+.2f} to {max(row['advantage']):+.2f}")
        print("  " + row["text"].strip().replace("\n", "\n  "))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
