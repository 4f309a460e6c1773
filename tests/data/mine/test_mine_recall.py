"""Mining in two passes, on crawls with known content, with every kind of worker."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mathquarry.data.files import read_json
from mathquarry.data.mine.classify import recall
from mathquarry.data.mine.config import MineConfig, RecallConfig, WorkersConfig
from mathquarry.data.mine.library import library
from mathquarry.data.mine.loop import mine
from mathquarry.data.store.workspace import Workspace
from tests.data.mine.test_mine_loop import digests, is_mathematics


@pytest.fixture
def two_passes(mine_config: MineConfig) -> MineConfig:
    return mine_config.model_copy(update={"recall": RecallConfig(keep=0.9, held_out=0.3)})


def test_a_first_pass_decides_what_is_extracted_and_a_second_what_is_collected(
    two_passes: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path / "run")
    summary = mine(two_passes, crawl, problems, workspace)
    corpus = pq.read_table(workspace.out / "corpus")
    urls = corpus["url"].to_pylist()
    assert all(is_mathematics(url) for url in urls)
    assert len(urls) >= 38  # of 44
    assert "$" in "".join(corpus["text"].to_pylist())
    dropped = pq.read_table(workspace.out / "dropped.parquet").to_pylist()
    assert len(dropped) + summary["pages"] == 140
    assert len({row["url"] for row in dropped} | set(urls)) == 140
    reasons = {row["url"]: row["reason"] for row in dropped}
    assert reasons["https://thin.example.org/"] in ("too-short", "low-recall-score")
    assert reasons["https://quotes.example.org/bakery.html"] == "contaminated"
    record = read_json(workspace.out / "rounds.json")
    refused = sum(reason == "low-recall-score" for reason in reasons.values())
    assert refused > 20
    funnel = {step["step"]: step["pages"] for step in record["funnel"]}
    assert funnel["let through by a first pass"] + refused == funnel["without near-duplicates"]
    assert record["rounds"][-1]["recall_captures"] <= funnel["let through by a first pass"]


@pytest.mark.slow
def test_pages_that_no_first_pass_let_through_count_in_their_domains(
    two_passes: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    one, two = Workspace.at(tmp_path / "one"), Workspace.at(tmp_path / "two")
    mine(two_passes.model_copy(update={"recall": RecallConfig(enabled=False)}), crawl, problems, one)
    mine(two_passes, crawl, problems, two)
    tables = (pq.read_table(workspace.out / "domains.parquet").to_pylist() for workspace in (one, two))
    careful, plain = ({row["host"]: row["pages"] for row in table} for table in tables)
    assert careful["forum.example.org"] == plain["forum.example.org"] == 36


@pytest.mark.slow
@pytest.mark.parametrize("stop_in", ["first pass", "second pass"])
def test_two_passes_that_are_cut_off_resume_to_the_same_bytes(
    stop_in: str, two_passes: MineConfig, crawl: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = Workspace.at(tmp_path / "whole"), Workspace.at(tmp_path / "cut")
    mine(two_passes, crawl, problems, whole)

    class Killed(BaseException):
        pass

    module, name = (recall, "score_captures") if stop_in == "first pass" else (library, "extract_picks")
    function, calls = getattr(module, name), []

    def killed_at_the_fifth(*arguments) -> None:
        calls.append(arguments)
        if len(calls) == 5:
            raise Killed
        function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed_at_the_fifth)
        with pytest.raises(Killed):
            mine(two_passes, crawl, problems, cut)
    mine(two_passes, crawl, problems, cut)
    assert digests(cut.out) == digests(whole.out)


@pytest.mark.slow
def test_threads_processes_and_a_ray_cluster_of_two_nodes_give_the_same_bytes(
    two_passes: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    found = {}
    for engine in ("processes", "threads"):
        workspace = Workspace.at(tmp_path / engine)
        workers = WorkersConfig(engine=engine, count=2, partitions=3)
        mine(two_passes.model_copy(update={"workers": workers}), crawl, problems, workspace)
        found[engine] = digests(workspace.out)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        workspace = Workspace.at(tmp_path / "ray")
        workers = WorkersConfig(engine="ray", ray_address=cluster.address, partitions=2)
        mine(two_passes.model_copy(update={"workers": workers}), crawl, problems, workspace)
        found["ray"] = digests(workspace.out)
    finally:
        cluster.shutdown()
    assert found["processes"] == found["threads"] == found["ray"]
