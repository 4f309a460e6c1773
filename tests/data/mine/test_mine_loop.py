import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

import mathquarry
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json
from mathquarry.data.mine import loop
from mathquarry.data.mine.classify import scoring
from mathquarry.data.mine.classify.classifier import Classifier
from mathquarry.data.mine.config import DecontaminationConfig, MineConfig, SeedConfig, WorkersConfig
from mathquarry.data.mine.loop import mine
from mathquarry.data.mine.pages import shards
from mathquarry.data.mine.record.why import why
from mathquarry.data.store.workspace import Workspace
from tests.data.mine.conftest import MATH_WORDS, QUOTED, Mined, crawl_pages, prose


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "metrics.jsonl")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def is_mathematics(url: str) -> bool:
    return "/questions/" in url or "notes." in url or "mirror." in url


def test_the_corpus_is_the_mathematics_of_the_crawl(mined: Mined, tmp_path: Path) -> None:
    corpus = pq.read_table(mined.out / "corpus")
    urls = corpus["url"].to_pylist()
    assert all(is_mathematics(url) for url in urls)
    assert len(urls) >= 38  # of 44: 24 questions and 20 notes
    assert mined.summary["pages"] == len(urls)
    assert mined.summary["tokens"] == sum(corpus["tokens"].to_pylist()) <= 8500
    assert corpus.schema.names == ["url", "host", "text", "score", "tokens", "formulas", "formula_kinds", "language", "round"]
    loaded = load_dataset("parquet", data_files=str(mined.out / "corpus" / "*.parquet"), split="train", cache_dir=str(tmp_path / "hub"))
    assert loaded["formula_kinds"] == corpus["formula_kinds"].to_pylist()
    for formulas, kinds in zip(corpus["formulas"].to_pylist(), corpus["formula_kinds"].to_pylist(), strict=True):
        assert formulas == sum(kind["count"] for kind in kinds)
    assert set(corpus["round"].to_pylist()) <= {1, 2, 3, 4}


def test_every_page_is_kept_or_dropped_with_a_reason(mined: Mined) -> None:
    dropped = {row["url"]: row for row in pq.read_table(mined.out / "dropped.parquet").to_pylist()}
    assert len(dropped) + mined.summary["pages"] == 140
    assert dropped["https://thin.example.org/"]["reason"] == "too-short"
    assert dropped["http://notes.example.net/n3.html?utm_source=mail#top"]["reason"] == "url-duplicate"
    assert dropped["https://quotes.example.org/bakery.html"]["reason"] == "contaminated"
    assert "bakery held-out-1 question, 10-gram: a baker fills" in dropped["https://quotes.example.org/bakery.html"]["detail"]
    # Of the page and its copy the smaller address stays.
    assert dropped["https://notes.example.net/n3.html"]["detail"] == "repeats https://mirror.example.org/n3-copy.html"
    record = read_json(mined.out / "rounds.json")
    assert sum(record["dropped"].values()) == len(dropped)
    assert [step["pages"] for step in record["funnel"]][:6] == [140, 139, 138, 138, 137, 136]
    assert record["funnel"][-1] == {"step": "collected", "pages": mined.summary["pages"], "tokens": mined.summary["tokens"]}
    assert record["contamination"] == [{"benchmark": "bakery", "n": 10, "pages": 1, "segments": 1}]
    assert {name: record["decontamination"][name] for name in ("remove", "pages_hit", "segments_hit", "pages_dropped")} == {
        "remove": "page",
        "pages_hit": 1,
        "segments_hit": 1,
        "pages_dropped": 1,
    }
    assert mined.summary["quoting_bakery_10_gram"] == 1


QUOTING = "https://quotes.example.org/long.html"


def quoting_crawl(write_crawl) -> Path:
    """The small crawl, with a page of mathematics whose third paragraph quotes a held-out question."""
    paragraphs = [prose(MATH_WORDS, 950), prose(MATH_WORDS, 951), f"Try this: {QUOTED.question}", "And so $x^2 + y^2 = 1$ holds."]
    html = f"<html><body><main>{''.join(f'<p>{text}</p>' for text in paragraphs)}</main></body></html>"
    return write_crawl([*crawl_pages(), (QUOTING, html)])


def test_removing_segments_keeps_the_page_without_its_quotation_in_corpus_and_classifier(
    mine_config: MineConfig, write_crawl, problems: Path, tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path / "run")
    config = mine_config.model_copy(update={"decontamination": DecontaminationConfig(remove="segment"), "token_budgets": [9500]})
    summary = mine(config, quoting_crawl(write_crawl), problems, workspace)
    corpus = pq.read_table(workspace.out / "corpus")
    (page,) = [row for row in corpus.to_pylist() if row["url"] == QUOTING]
    assert page["text"] == "\n\n".join([prose(MATH_WORDS, 950), prose(MATH_WORDS, 951), "And so $x^2 + y^2 = 1$ holds."])
    assert page["tokens"] == len(page["text"]) // 4
    assert not any("nineteen trays" in text for text in corpus["text"].to_pylist())
    # Scores are those of the texts as they stand in the corpus.
    assert np.array_equal(Classifier(workspace.out / "classifier.bin").score(corpus["text"].to_pylist()), corpus["score"].to_numpy())
    record = read_json(workspace.out / "rounds.json")
    assert record["decontamination"]["segments_hit"] == 2
    assert record["contamination"] == [{"benchmark": "bakery", "n": 10, "pages": 2, "segments": 2}]
    assert summary["segments_quoting_benchmarks"] == 2
    quotes = {row["url"]: row for row in pq.read_table(workspace.out / "contamination.parquet").to_pylist()}
    assert (quotes[QUOTING]["removed"], quotes[QUOTING]["segments"]) == ("segment", 1)
    assert quotes[QUOTING]["quote"] == "a baker fills nineteen trays with fourteen almond buns each"


def test_a_page_with_too_little_left_beside_its_quotations_goes_whole(
    mine_config: MineConfig, write_crawl, problems: Path, tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path / "run")
    config = mine_config.model_copy(update={"decontamination": DecontaminationConfig(remove="segment"), "max_rounds": 1})
    html = f"<html><body><p>{QUOTED.question}</p><p>That is not hard, is it?</p></body></html>"
    mine(config, write_crawl([*crawl_pages(), (QUOTING, html)]), problems, workspace)
    (dropped,) = [row for row in pq.read_table(workspace.out / "dropped.parquet").to_pylist() if row["url"] == QUOTING]
    assert dropped["reason"] == "contaminated"
    assert dropped["detail"].endswith("; without 1 of 2 segments 24 characters are left, fewer than 100")


def test_every_page_has_an_answer_to_why(mined: Mined) -> None:
    rounds = read_json(mined.out / "rounds.json")["rounds"]
    for kept in pq.read_table(mined.out / "corpus").to_pylist():
        (verdict,) = why(mined.out, kept["url"] + "#top")
        assert (verdict.kept, verdict.reason) == (True, "collected")
        assert f"round {kept['round']}, score {kept['score']:.6f}" in verdict.detail
        scored = [line for line in verdict.history if line.startswith("round")]
        assert len(scored) == len(rounds)
        assert "not collected" not in scored[-1]
        # The round that first collected it is the first whose line says so.
        assert [" collected" in line and "not collected" not in line for line in scored].index(True) + 1 == kept["round"]
    (verdict,) = why(mined.out, "https://forum.example.org/jobs/3")
    assert verdict.reason == "low-score"
    assert all("not collected (from " in line for line in verdict.history[:-1])
    assert verdict.history[-1].startswith("host forum.example.org: a mathematical domain, ")
    (verdict,) = why(mined.out, "https://quotes.example.org/bakery.html")
    assert verdict.history[0].startswith("quotes bakery held-out-1 question, 10-gram, in 1 segment (the whole page was dropped): a baker")
    assert [(found.kept, found.reason) for found in why(mined.out, "http://THIN.example.org")] == [(False, "too-short")]
    # One address, captured twice in two spellings.
    assert sorted(found.reason for found in why(mined.out, "https://notes.example.net/n3.html")) == [
        "near-duplicate",
        "url-duplicate",
    ]
    with pytest.raises(MathQuarryError, match=r"has no page https://nowhere.example.org/"):
        why(mined.out, "https://nowhere.example.org/")
    with pytest.raises(MathQuarryError, match="is not an http"):
        why(mined.out, "n3.html")


def test_rounds_find_the_folder_of_mathematics_and_enlarge_the_seed(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path / "run")
    config = mine_config.model_copy(update={"token_budgets": [5000, 8500]})
    mine(config, crawl, problems, workspace)
    record = read_json(workspace.out / "rounds.json")
    first, second = record["rounds"][:2]
    assert first["seed_positives"] == 10
    assert first["overlap"] is None
    assert first["pages_added"] > 0
    assert second["seed_positives"] == 10 + first["pages_added"]
    assert "forum.example.org/questions/" in second["accepted_paths"]
    assert not any("jobs" in path or (path.endswith("org/") and "forum" in path) for path in second["accepted_paths"])
    assert record["stopped"] == "overlap"
    assert record["rounds"][-1]["overlap"] >= config.stop_overlap
    logged = workspace.metrics.read()
    assert [line["step"] for line in logged] == [done["round"] for done in record["rounds"]]
    assert logged[1]["values"].keys() == {"pages", "tokens", "overlap", "threshold"}


def test_each_round_has_its_budget_and_the_last_one_stands_for_all_further_ones(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    """A round spends its budget up to the next page, of at most 400 tokens here."""
    workspace = Workspace.at(tmp_path / "run")
    budgets = [3000, 6000]
    summary = mine(
        mine_config.model_copy(update={"token_budgets": budgets, "max_rounds": 3, "stop_overlap": 1.0}), crawl, problems, workspace
    )
    assert summary["rounds"] == 3
    spent = [done["tokens"] for done in read_json(workspace.out / "rounds.json")["rounds"]]
    assert len(spent) == 3
    for tokens, budget in zip(spent, [*budgets, budgets[-1]], strict=True):
        assert budget - 400 < tokens <= budget


def test_the_record_of_a_round_says_on_what_it_was_trained_how_it_ranks_and_how_many_tokens_it_has(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    labels = [{"url": f"http://forum.example.org/questions/{number}/", "label": "math"} for number in range(24)]
    labels += [{"url": f"https://forum.example.org/jobs/{number}", "label": False} for number in range(12)]
    labels.append({"url": "https://nowhere.example.org/", "label": "math_plain"})
    labelled, tokenizer = tmp_path / "labels.jsonl", tmp_path / "tokenizer.json"
    labelled.write_text("".join(json.dumps(label) + "\n" for label in labels))
    words = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    words.save(str(tokenizer))
    config = mine_config.model_copy(
        update={
            "labelled": str(labelled),
            "tokenizer": str(tokenizer),
            "token_budgets": [4000, 5000],
            "token_sample": 20,
            "stop_overlap": 0.8,
        }
    )
    workspace = Workspace.at(tmp_path / "run")
    mine(config, crawl, problems, workspace)
    rounds = read_json(workspace.out / "rounds.json")["rounds"]
    last = rounds[-1]
    assert last["classifier_sha256"] == hashlib.sha256((workspace.out / "classifier.bin").read_bytes()).hexdigest()
    assert rounds[0]["pages_added"] > 0
    for before, after in pairwise(rounds):
        assert (before["seed_sha256"] != after["seed_sha256"]) == (before["pages_added"] > 0)
    assert sum(last["scores"]) == 136
    assert (last["labelled"]["pages"], last["labelled"]["positives"], last["labelled"]["missing"]) == (36, 24, 1)
    assert last["labelled"]["average_precision"] > 0.95
    assert last["labelled"]["curve"][-1][2] == 1.0
    assert rounds[0]["new_domains"] == rounds[0]["mathematical_domains"]
    assert not set(rounds[1]["new_domains"]) & set(rounds[0]["mathematical_domains"])
    assert last["duplicates"] == {"url-duplicate": 1, "exact-duplicate": 0, "near-duplicate": 1}
    assert last["contamination"] == [{"benchmark": "bakery", "n": 10, "pages": 1, "segments": 1}]
    corpus = pq.read_table(workspace.out / "corpus")["text"].to_pylist()
    exact = sum(len(text.split()) for text in corpus)
    assert abs(last["tokens_counted"] - exact) < 4 * last["tokens_error"]
    assert 0 < last["tokens_error"] < 0.1 * exact
    # The budget is spent in counted tokens: a word is more than four bytes.
    assert 0.8 * last["budget"] < exact < 1.1 * last["budget"] < last["tokens"]


def test_the_samples_lie_on_both_sides_of_the_threshold(mined: Mined) -> None:
    corpus = {row["url"]: row for row in pq.read_table(mined.out / "corpus").to_pylist()}
    samples = pq.read_table(mined.out / "samples.parquet").to_pylist()
    by_kind = {kind: [row for row in samples if row["kind"] == kind] for kind in ("collected", "just-above", "just-below", "rejected")}
    assert all(len(rows) == 8 for rows in by_kind.values())
    above = {row["url"] for row in by_kind["just-above"]}
    assert above == {row["url"] for row in sorted(corpus.values(), key=lambda row: row["score"])[:8]}
    for row in samples:
        assert (row["url"] in corpus) == (row["kind"] in ("collected", "just-above"))
        if row["url"] in corpus:
            assert row["text"].removesuffix(" […]") in corpus[row["url"]]["text"]


def test_the_published_classifier_gives_the_published_scores(mined: Mined) -> None:
    corpus = pq.read_table(mined.out / "corpus")
    again = Classifier(mined.out / "classifier.bin").score(corpus["text"].to_pylist())
    assert np.array_equal(again, corpus["score"].to_numpy())


@pytest.mark.slow
def test_two_processes_give_the_bytes_that_one_gives(mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path) -> None:
    one, two = Workspace.at(tmp_path / "one"), Workspace.at(tmp_path / "two")
    mine(mine_config, crawl, problems, one)
    mine(mine_config.model_copy(update={"workers": WorkersConfig(count=2, partitions=3)}), crawl, problems, two)
    assert digests(one.out) == digests(two.out)


@pytest.mark.parametrize("stop_in", ["extract", "compare", "score", "write"])
def test_a_run_that_is_cut_off_resumes_to_the_same_bytes(
    stop_in: str, mined: Mined, mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Workspace.at(tmp_path / "cut")

    class Killed(BaseException):
        pass

    calls = 0

    def killed_at(limit: int, function):
        def wrapper(*arguments):
            nonlocal calls
            calls += 1
            if calls == limit:
                raise Killed
            return function(*arguments)

        return wrapper

    with monkeypatch.context() as patch:
        if stop_in == "extract":
            patch.setattr(shards, "capture_warc", killed_at(2, shards.capture_warc))
        elif stop_in == "compare":
            from mathquarry.data.mine.library import decontaminate

            patch.setattr(decontaminate, "scan_shard", killed_at(3, decontaminate.scan_shard))
        elif stop_in == "score":
            patch.setattr(scoring, "score_shard", killed_at(5, scoring.score_shard))  # in the second round
        else:
            patch.setattr(loop, "write_dropped", killed_at(1, loop.write_dropped))
        with pytest.raises(Killed):
            mine(mine_config, crawl, problems, cut)
    extracted: list[str] = []
    extract = shards.capture_warc
    monkeypatch.setattr(shards, "capture_warc", lambda *job: (extracted.append(job[0]), extract(*job))[1])
    mine(mine_config, crawl, problems, cut)
    assert digests(cut.out) == digests(mined.out)
    assert len(extracted) == (2 if stop_in == "extract" else 0)
    steps = [line["step"] for line in cut.metrics.read()]
    assert steps == [line["step"] for line in mined.workspace.metrics.read()]


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


RUN = """
import sys
from itertools import pairwise
from pathlib import Path
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.loop import mine
from mathquarry.data.store.workspace import Workspace

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = MineConfig.model_validate_json(sys.argv[2])
    mine(config, folder / "crawl", folder / "problems", Workspace.at(folder / "killed"))
"""


@pytest.mark.slow
def test_kill_9_leaves_no_workers_and_loses_only_unfinished_files(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    config = mine_config.model_copy(update={"workers": WorkersConfig(count=2, partitions=3)})
    script = tmp_path / "run.py"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(tmp_path), config.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": str(Path(mathquarry.__file__).parents[1])}
    first = tmp_path / "killed" / "scratch" / "captures" / "000000.parquet"
    process = subprocess.Popen(command, env=environment)
    while not first.exists():
        assert process.poll() is None, "the run ended before its first shard was written"
        time.sleep(0.02)
    children = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(children) >= 2
    while any(running(child) for child in children):
        time.sleep(0.05)
    written = first.stat().st_mtime_ns
    subprocess.run(command, env=environment, check=True)
    assert first.stat().st_mtime_ns == written
    whole = Workspace.at(tmp_path / "whole")
    mine(config, crawl, problems, whole)
    assert digests(tmp_path / "killed" / "out") == digests(whole.out)


def test_a_seed_file_gives_positives_from_outside_the_crawl(mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "seed.jsonl"
    lines = [{"text": f"theorem proof integral lemma matrix {number} " * 10, "url": f"http://seed.org/{number}"} for number in range(40)]
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    workspace = Workspace.at(tmp_path / "run")
    config = mine_config.model_copy(update={"seed_pages": SeedConfig(source="file", path=str(corpus), positives=25, negatives=60)})
    mine(config, crawl, problems, workspace)
    first = read_json(workspace.out / "rounds.json")["rounds"][0]
    assert (first["seed_positives"], first["seed_negatives"]) == (25, 60)
    assert np.mean([is_mathematics(url) for url in pq.read_table(workspace.out / "corpus")["url"].to_pylist()]) > 0.9


def test_a_truncated_warc_costs_its_last_pages_and_nothing_more(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    damaged = crawl / "warc" / "1.warc.gz"
    damaged.write_bytes(damaged.read_bytes()[:-700])
    workspace = Workspace.at(tmp_path / "run")
    summary = mine(mine_config, crawl, problems, workspace)
    assert summary["dropped_broken_warc"] == 1
    broken = [row for row in pq.read_table(workspace.out / "dropped.parquet").to_pylist() if row["reason"] == "broken-warc"]
    assert "1.warc.gz" in broken[0]["detail"]
    assert summary["pages"] > 30


def test_a_missing_warc_is_named(mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path) -> None:
    (crawl / "warc" / "2.warc.gz").unlink()
    workspace = Workspace.at(tmp_path / "run")
    with pytest.raises(MathQuarryError, match=r"2\.warc\.gz"):
        mine(mine_config, crawl, problems, workspace)
    assert not (workspace.scratch / "captures" / "000002.parquet").exists()


def test_real_odd_files_and_files_that_are_no_warc_are_read_or_counted_with_their_reason(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path, shared_data: Path
) -> None:
    odd = sorted((shared_data / "web" / "warc-cases").iterdir())
    (crawl / "warc" / "empty.warc.gz").touch()
    (crawl / "warc" / "text.warc.gz").write_text("this is no WARC file at all")
    listing = read_json(crawl / "warcs.json")
    listing["files"] += [{"path": str(path)} for path in odd]
    listing["files"] += [{"path": f"warc/{name}.warc.gz"} for name in ("empty", "text")]
    (crawl / "warcs.json").write_text(json.dumps(listing))
    workspace = Workspace.at(tmp_path / "run")
    summary = mine(mine_config, crawl, problems, workspace)
    assert (summary["dropped_no_warc"], summary["dropped_broken_warc"]) == (3, 1)
    dropped = pq.read_table(workspace.out / "dropped.parquet").to_pylist()
    named = {row["detail"].split(" ")[0] for row in dropped if row["reason"] == "no-warc"}
    assert {Path(name).name for name in named} == {"example.arc.gz", "empty.warc.gz", "text.warc.gz"}


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"seed_pages": SeedConfig()}, r"seed_pages\.path is not set"),
        ({"seed_pages": SeedConfig(path="/none/seed.jsonl")}, r"/none/seed\.jsonl does not exist"),
        ({"min_characters": 100_000}, "no page of the crawl has text"),
        ({"annotations": "/none/paths.toml"}, r"/none/paths\.toml does not exist"),
    ],
)
def test_what_cannot_be_mined_says_why(
    update: dict, message: str, mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    with pytest.raises(MathQuarryError, match=message):
        mine(mine_config.model_copy(update=update), crawl, problems, Workspace.at(tmp_path / "run"))


def test_a_crawl_without_formulas_or_files_says_so(mine_config: MineConfig, write_crawl, problems: Path, tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(100))
    crawl = write_crawl([(f"http://x.org/{number}", f"<p>{text} {number * 7919} end</p>") for number in range(3)])
    with pytest.raises(MathQuarryError, match="no page of the crawl has a formula"):
        mine(mine_config, crawl, problems, Workspace.at(tmp_path / "run"))
    (crawl / "warcs.json").write_text('{"files": []}')
    with pytest.raises(MathQuarryError, match="lists no WARC files"):
        mine(mine_config, crawl, problems, Workspace.at(tmp_path / "other"))
