"""Weight transfers without vLLM, on one rank and on two."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.ranks.launch import launch
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.handover import folder as folder_way
from mathquarry.models.rollout.handover.choice import make_handover
from mathquarry.models.rollout.handover.folder import INDEX, FolderHandover
from mathquarry.models.rollout.hf import TransformersEngine
from mathquarry.models.rollout.weight_check import check_weights
from mathquarry.models.rollout.weights import whole_tensors
from tests.models.rl.rank_work import hand_over
from tests.models.rl.tiny import save_policy, tiny_policy

ALONE = Ranks.current()


@pytest.fixture(autouse=True)
def in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace `/dev/shm` by a folder, to see which files are left in it."""
    monkeypatch.setattr(folder_way, "MEMORY_FOLDER", tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    return tmp_path / "memory"


def test_a_tied_head_comes_under_its_own_name() -> None:
    policy = tiny_policy()
    policy.lm_head.weight = policy.model.embed_tokens.weight
    weights = dict(whole_tensors(policy, torch.bfloat16))
    assert weights.keys() == tiny_policy().state_dict().keys()
    assert torch.equal(weights["lm_head.weight"], policy.model.embed_tokens.weight.bfloat16())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("part_bytes", [1, 10_000, 2**29])
def test_a_folder_in_any_number_of_parts_brings_all_weights(
    part_bytes: int, tied: bool, tmp_path: Path, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_way, "PART_BYTES", part_bytes)
    policy, engine = tiny_policy(seed=1), TransformersEngine(RolloutConfig(), tiny_policy(seed=2))
    if tied:
        policy.lm_head.weight = policy.model.embed_tokens.weight
    FolderHandover(engine, ALONE, tmp_path).hand_over(policy, "step 3")
    assert check_weights(engine, policy, ALONE, "step 3") > 0
    assert all(torch.equal(engine.model.state_dict()[name], weight) for name, weight in policy.state_dict().items())
    assert list(in_memory.iterdir()) == []


def test_memory_without_room_is_not_used(tmp_path: Path, in_memory: Path) -> None:
    in_memory.rmdir()
    policy, engine = tiny_policy(seed=1), TransformersEngine(RolloutConfig(), tiny_policy(seed=2))
    seen: list[Path] = []
    load = engine.load
    engine.load = lambda folder, version: (seen.append(folder), load(folder, version))[1]  # type: ignore[method-assign, return-value]
    FolderHandover(engine, ALONE, tmp_path / "scratch").hand_over(policy, "step 1")
    assert [folder.parent for folder in seen] == [tmp_path / "scratch"]
    check_weights(engine, policy, ALONE, "step 1")


def test_what_a_killed_run_left_behind_is_replaced(tmp_path: Path, in_memory: Path) -> None:
    engine = TransformersEngine(RolloutConfig(), tiny_policy(seed=2))
    killed = FolderHandover(engine, ALONE, tmp_path)
    left = killed._new_folder(tiny_policy())
    killed._write(tiny_policy(seed=5), "step 1", left)
    (left / "model-00099.safetensors").write_bytes(b"half a file")
    policy = tiny_policy(seed=1)
    FolderHandover(engine, ALONE, tmp_path).hand_over(policy, "step 2")
    check_weights(engine, policy, ALONE, "step 2")
    assert list(in_memory.iterdir()) == []


def test_a_folder_of_another_version_is_refused(tmp_path: Path, in_memory: Path) -> None:
    class Meddled(FolderHandover):
        """Another process writes to the folder at the same time."""

        def _write(self, policy, version, folder):  # type: ignore[no-untyped-def]
            super()._write(policy, version, folder)
            index = json.loads((folder / INDEX).read_text())
            (folder / INDEX).write_text(json.dumps({**index, "metadata": {"version": "step 1"}}))

    engine = TransformersEngine(RolloutConfig(), tiny_policy(seed=2))
    with pytest.raises(MathQuarryError, match="holds the weights of step 1, not of step 2"):
        Meddled(engine, ALONE, tmp_path).hand_over(tiny_policy(), "step 2")
    assert list(in_memory.iterdir()) == []


def test_weights_that_are_missing_are_named() -> None:
    engine = TransformersEngine(RolloutConfig(), tiny_policy(seed=2))
    weights = [(name, tensor) for name, tensor in tiny_policy().state_dict().items() if "layers.1.mlp" not in name]
    with pytest.raises(MathQuarryError, match=r"lack 3 that the engine needs, among them model\.layers\.1\.mlp\.down_proj\.weight"):
        engine.receive(iter(weights), "step 1")


def test_on_one_rank_the_shared_way_makes_no_copy(tmp_path: Path) -> None:
    policy = tiny_policy()
    engine = TransformersEngine(RolloutConfig(), copy.deepcopy(policy))
    make_handover(RolloutConfig(), engine, ALONE, tmp_path).hand_over(policy, "step 1")
    assert engine.model is policy


@pytest.mark.parametrize("way", ["ipc", "nccl"])
def test_ways_between_processes_need_vllm(way: str) -> None:
    with pytest.raises(ValidationError, match=f"handover is `{way}`, which needs engine `vllm`"):
        RolloutConfig(handover=way)


@pytest.mark.slow
def test_two_ranks_bring_what_they_share_to_both_engines_in_either_way_and_precision(tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "policy")
    found = launch(hand_over, (folder,), RanksConfig(processes=2), Workspace.at(tmp_path / "space"), "handover")
    assert set(found) == {(way, precision) for way in ("shared", "folder") for precision in ("float32", "bfloat16")}
    for way, metrics in found.items():
        assert metrics["stale"], way  # a step at the paper's rate is noticed until it is handed over
        assert metrics["compared"] == [len(list(tiny_policy().parameters()))] * 2, way
