"""The complete pipeline with adapters, from an existing pretrained model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mathquarry.data.store.store import Store, verify_files
from mathquarry.models.policy.adapter_checkpoint import is_adapted
from mathquarry.models.policy.checkpoint import load_policy, load_reward
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow


def test_fine_tuning_reward_models_and_grpo_train_adapters_and_their_artifacts_say_so(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    adapters = [part for stage in ("sft", "reward", "grpo") for part in ("--set", f"{stage}.lora.rank=4")]
    output = command_line.run(*command_line.tiny(store, *adapters))
    assert "artifacts made" in output
    run = Store(store).runs()[-1]
    made = {stage["name"]: Store(store).get(stage["stage"], stage["key"]) for stage in run["stages"]}
    for name in ("sft", "reward-0", "grpo-1", "reward-1", "grpo-2"):
        assert made[name].summary["lora_rank"] == 4, name
        assert is_adapted(made[name].path / "model"), name
        assert verify_files(made[name].path, made[name].manifest) == [], name
    # GRPO's second policy: adapters upon those of the first one, upon those of fine-tuning, upon the pretrained model's own file.
    innermost = made["grpo-2"].path / "model" / "base" / "base" / "base" / "model.safetensors"
    assert innermost.samefile(made["pretrain"].path / "model" / "model.safetensors")
    load_policy(made["grpo-2"].path / "model")
    load_reward(made["reward-1"].path / "model")
    # Artifacts hold links to one another's files: deleting the older ones leaves the newest whole.
    for name in ("pretrain", "sft", "grpo-1"):
        shutil.rmtree(made[name].path)
    load_policy(made["grpo-2"].path / "model")
