"""Section "corpus": the funnel of mining, its rounds, what was planted against what was removed, and the domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from data.report.artifact import ReportArtifact, of_stage
from data.report.blocks import Bar, Bars, Block, Chart, Section, Table, count, figure, number, percent, short
from data.report.charts import plain_bars

DOMAINS = 20
PLANTED = (
    ("Pages that quote a held-out question", "planted_contaminated", "removed_contaminated"),
    ("Near-duplicates", "planted_near_duplicates", "removed_near_duplicates"),
    ("Repeated captures of a URL", "planted_url_duplicates", "removed_url_duplicates"),
)


def corpus_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """What happened to the pages of the crawl; None for a run that mined nothing."""
    mined = of_stage(artifacts, "mine")
    record = mined[-1].json("rounds.json") if mined else None
    if record is None:
        return None
    mine = mined[-1]
    blocks: list[Block] = [
        *_funnel(record),
        *_dropped(record),
        *_planted(mine.summary),
        *_rounds(record),
        *_contamination(record),
        *_domains(mine),
    ]
    stopped = {"overlap": "ended because nearly everything was already collected", "max_rounds": "ended at the largest number of rounds"}
    ending = stopped.get(str(record.get("stopped")), "")
    return Section(
        "corpus",
        "Corpus",
        f"From captured pages to the corpus that pretraining reads, in {len(record['rounds'])} rounds of mining"
        + (f"; mining {ending}." if ending else ".")
        + " Token counts are estimates (four bytes of text each).",
        blocks,
    )


def _funnel(record: Mapping[str, Any]) -> list[Block]:
    steps = record.get("funnel", [])
    if not steps:
        return []
    most = max(step["pages"] for step in steps) or 1
    bars = []
    for step in steps:
        tokens = f"{short(step['tokens'])} tokens" if step.get("tokens") is not None else ""
        last = step is steps[-1]
        bars.append(Bar(_words(step["step"]), f"{count(step['pages'])} pages", step["pages"] / most, tokens, "good" if last else "main"))
    return [Bars(bars, "Funnel: pages that remain")]


def _dropped(record: Mapping[str, Any]) -> list[Block]:
    reasons = record.get("dropped", {})
    if not reasons:
        return []
    most = max(reasons.values()) or 1
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    bars = [Bar(_words(name), count(pages), pages / most, tone="muted") for name, pages in ordered]
    return [Bars(bars, "Pages dropped, by reason")]


def _planted(summary: Mapping[str, Any]) -> list[Block]:
    rows = [
        [what, count(number(summary, planted)), count(number(summary, removed))]
        for what, planted, removed in PLANTED
        if number(summary, planted) is not None
    ]
    if not rows:
        return []
    return [Table(["Planted in the generated crawl", "Planted", "Removed"], rows, frozenset({1, 2}), "Planted faults against removed ones")]


def _rounds(record: Mapping[str, Any]) -> list[Block]:
    rounds = record["rounds"]
    rows = [
        [
            str(entry["round"]),
            count(entry["pages"]),
            short(entry["tokens"]),
            figure(entry["threshold"]),
            percent(entry["overlap"]),
            f"{count(entry['seed_positives'])} / {count(entry['seed_negatives'])}",
            count(len(entry["mathematical_domains"])),
            count(entry["pages_added"]),
        ]
        for entry in rounds
    ]
    headers = ["Round", "Pages", "Tokens", "Score threshold", "Already collected", "Seed + / −", "Math domains", "Pages added to seed"]
    blocks: list[Block] = [Table(headers, rows, frozenset(range(8)), "Rounds")]
    if len(rounds) > 1:
        labels = [f"round {entry['round']}" for entry in rounds]
        pages = plain_bars(labels, [entry["pages"] for entry in rounds])
        overlap = plain_bars(labels, [entry["overlap"] for entry in rounds], ".0%", (0, 1))
        blocks += [Chart("Pages collected", pages), Chart("Share of tokens already collected in the round before", overlap)]
    return blocks


def _contamination(record: Mapping[str, Any]) -> list[Block]:
    hits = record.get("contamination", [])
    if not hits:
        return []
    rows = [[str(hit["benchmark"]), str(hit["n"]), count(hit["pages"])] for hit in hits]
    return [Table(["Benchmark", "Matched n-gram", "Pages removed"], rows, frozenset({1, 2}), "Decontamination")]


def _domains(mine: ReportArtifact) -> list[Block]:
    path = mine.path / "domains.parquet"
    if not path.exists():
        return []
    columns = ["host", "pages", "collected", "share", "mathematical", "accepted"]
    table = pq.read_table(path, columns=columns)
    rows = [
        [
            row["host"],
            count(row["pages"]),
            count(row["collected"]),
            percent(row["share"], 0),
            "yes" if row["mathematical"] else "no",
            _paths(row["accepted"]),
        ]
        for row in table.slice(0, DOMAINS).to_pylist()
    ]
    title = f"Domains, most collected pages first ({min(DOMAINS, table.num_rows)} of {count(table.num_rows)})"
    headers = ["Domain", "Pages", "Collected", "Share", "Mathematical", "Accepted paths"]
    return [Table(headers, rows, frozenset({1, 2, 3}), title, mono=frozenset({0, 5}))]


def _paths(prefixes: list[str] | None) -> str:
    shown = (prefixes or [])[:4]
    more = len(prefixes or []) - len(shown)
    return " ".join(shown) + (f" and {more} more" if more > 0 else "")


def _words(name: str) -> str:
    text = name.replace("_", " ").replace("url-", "URL-")
    return text[:1].upper() + text[1:]
