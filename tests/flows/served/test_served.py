"""How the scheduled flows read the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Store
from mathquarry.flows.served.flows import newest_run


def recorded(store: Store, run: str, recipe: str, status: str, ended: str, stages: list[str]) -> None:
    store.write_run(
        {
            "id": run,
            "recipe": recipe,
            "started": "2024-02-05T00:00:00Z",
            "ended": ended,
            "status": status,
            "config": {},
            "stages": [{"name": name, "stage": name.split("-")[0], "key": "0" * 20, "reused": False} for name in stages],
        }
    )


def test_the_next_iteration_continues_the_newest_finished_run_of_the_pipeline(tmp_path: Path) -> None:
    store = Store(tmp_path)
    recorded(store, "r1", "tiny", "completed", "2024-02-05T01:00:00Z", ["sft", "reward-0", "grpo-1"])
    recorded(store, "r2", "smollm", "completed", "2024-02-05T02:00:00Z", ["sft", "reward-0", "grpo-1"])
    recorded(store, "a-comparison", "tiny", "completed", "2024-02-05T03:00:00Z", ["sft", "reward-os", "grpo-ppo-0"])
    recorded(store, "failed", "tiny", "failed", "2024-02-05T04:00:00Z", ["sft", "reward-0"])
    Ledger(store).sync()
    assert newest_run(store, None)["id"] == "r2"
    assert newest_run(store, "tiny")["id"] == "r1"
    recorded(store, "by-the-rule", "tiny", "completed", "2024-02-05T05:00:00Z", ["sft", "grpo-1"])
    Ledger(store).sync()
    assert newest_run(store, "tiny")["id"] == "by-the-rule", "a run that is rewarded by the answer checker has no reward model"
    with pytest.raises(MathQuarryError, match="no finished run of recipe 1b"):
        newest_run(store, "1b")
