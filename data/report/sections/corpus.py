"""Section "corpus": the funnel of mining, its rounds, planted and removed pages, and the domains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mathquarry.data.mine.record.histogram import FURTHEST
from mathquarry.data.report.page.artifact import ReportArtifact, of_stage
from mathquarry.data.report.page.blocks import Bar, Bars, Block, Chart, Section, Table, count, number, percent, rounded, short
from mathquarry.data.report.page.charts import Line, lines, plain_bars
from mathquarry.data.report.page.excerpts import excerpt_blocks
from mathquarry.data.report.page.histogram_panels import Panel, histogram_panels
from mathquarry.data.report.page.source import Source, columns_of, json_source, literal, summary_source
from mathquarry.data.report.sections.domains import domain_blocks
from mathquarry.data.report.sections.rollouts import evenly
from mathquarry.data.report.sections.score_bins import shown, ticks

MOST_PANELS = 4
"""Rounds whose scores are drawn: the first, the last, and others evenly spread."""

PLANTED = (
    ("Pages that quote a held-out question", "planted_contaminated", "removed_contaminated"),
    ("Near-duplicates", "planted_near_duplicates", "removed_near_duplicates"),
    ("Repeated captures of a URL", "planted_url_duplicates", "removed_url_duplicates"),
)


def corpus_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show what happened to the pages of the crawl; None for a run without mining."""
    mined = of_stage(artifacts, "mine")
    record = mined[-1].json("rounds.json") if mined else None
    if record is None:
        return None
    mine = mined[-1]
    blocks: list[Block] = [
        *_funnel(mine, record),
        *_dropped(mine, record),
        *_planted(mine),
        *_rounds(mine, record),
        *_contamination(mine, record),
        *domain_blocks(mine),
        *excerpt_blocks(mine),
    ]
    stopped = {"overlap": "stopped because almost nothing new was collected", "max_rounds": "stopped at the maximum number of rounds"}
    ending = stopped.get(str(record.get("stopped")), "")
    return Section(
        "corpus",
        "Corpus",
        f"From captured pages to the corpus that pretraining reads, in {len(record['rounds'])} rounds of mining"
        + (f"; mining {ending}." if ending else ".")
        + " Token counts are estimates (four bytes of text each).",
        blocks,
    )


def _funnel(mine: ReportArtifact, record: Mapping[str, Any]) -> list[Block]:
    steps = record.get("funnel", [])
    if not steps:
        return []
    most = max(step["pages"] for step in steps) or 1
    bars = []
    before = steps[0]["pages"]
    for step in steps:
        lost = f"−{count(before - step['pages'])}" if step["pages"] < before else ""
        tokens = f"{short(step['tokens'])} tokens" if step.get("tokens") is not None else ""
        last = step is steps[-1]
        note = ", ".join(filter(None, (lost, tokens)))
        bars.append(Bar(_words(step["step"]), f"{count(step['pages'])} pages", step["pages"] / most, note, "good" if last else "main"))
        before = step["pages"]
    source = _records(mine, "funnel", columns_of("part", step="varchar", pages="bigint", tokens="bigint"))
    return [Bars(bars, "Funnel: pages that remain", source=source)]


def _dropped(mine: ReportArtifact, record: Mapping[str, Any]) -> list[Block]:
    reasons = record.get("dropped", {})
    if not reasons:
        return []
    most = max(reasons.values()) or 1
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    bars = [Bar(_words(name), count(pages), pages / most, tone="muted") for name, pages in ordered]
    query = f"select reason, count(*) as pages from dropped\nwhere artifact = {literal(mine.key)} group by reason order by all desc"
    return [Bars(bars, "Pages dropped, by reason", source=Source.of([mine], query))]


def _planted(mine: ReportArtifact) -> list[Block]:
    summary = mine.summary
    rows = [
        [what, count(number(summary, planted)), count(number(summary, removed))]
        for what, planted, removed in PLANTED
        if number(summary, planted) is not None
    ]
    if not rows:
        return []
    headers = ["Planted in the generated crawl", "Planted", "Removed"]
    source = summary_source([(mine.name, mine)], [name for _, *names in PLANTED for name in names])
    return [Table(headers, rows, frozenset({1, 2}), "Planted and removed pages", source=source)]


def _rounds(mine: ReportArtifact, record: Mapping[str, Any]) -> list[Block]:
    rounds = record["rounds"]
    rows = [
        [
            str(entry["round"]),
            count(entry["pages"]),
            short(entry["tokens"]),
            rounded(entry["threshold"]),
            percent(entry["overlap"]),
            f"{count(entry['seed_positives'])} / {count(entry['seed_negatives'])}",
            _separated(entry),
            count(len(entry["mathematical_domains"])),
            count(entry["pages_added"]),
        ]
        for entry in rounds
    ]
    headers = [
        "Round",
        "Pages",
        "Tokens",
        "Score threshold",
        "Already collected",
        "Seed + / −",
        "Held-out AUC",
        "Math domains",
        "Pages added to seed",
    ]
    metrics = columns_of(
        "part",
        round="int",
        pages="bigint",
        tokens="bigint",
        threshold="double",
        overlap="double",
        seed_positives="bigint",
        seed_negatives="bigint",
        pages_added="bigint",
        tokens_counted="bigint",
        tokens_error="bigint",
    )
    counted = "json_array_length(part->'mathematical_domains') as mathematical_domains"
    precision = "part->'labelled'->'average_precision' as average_precision, part->'separation'->'auc' as held_out_auc"
    source = _records(mine, "rounds", f"{metrics}, {counted}, {precision}")
    blocks: list[Block] = [Table(headers, rows, frozenset(range(9)), "Rounds", note=_measured(rounds), source=source)]
    if warnings := [[str(entry["round"]), sentence] for entry in rounds for sentence in entry.get("warnings", [])]:
        listed = _records(mine, "rounds", f"{columns_of('part', round='int')}, part->'warnings' as warnings")
        blocks.append(Table(["Round", "Warning"], warnings, frozenset({0}), "Warnings of mining", source=listed))
    blocks += _scores(mine, rounds)
    if len(rounds) > 1:
        labels = [f"round {entry['round']}" for entry in rounds]
        pages = plain_bars(labels, [entry["pages"] for entry in rounds])
        known = [entry for entry in rounds if entry["overlap"] is not None]
        overlap = lines(
            [Line("already collected", [entry["round"] for entry in known], [entry["overlap"] for entry in known])],
            "round",
            ".0%",
            (0, 1.02),
            points=True,
            level=0.98,
        )
        overlap["layout"]["xaxis"] |= {"dtick": 1}
        blocks += [
            Chart("Pages collected", pages, source=source),
            Chart(
                "Share of tokens already collected in the round before",
                overlap,
                "The paper stopped at about 98 % (dotted).",
                source=source,
            ),
        ]
    return blocks


def _separated(entry: Mapping[str, Any]) -> str:
    """Return the AUC of the round's classifier on held-out pages; a dash if the record has none."""
    if "separation" not in entry:
        return rounded(None)
    auc = entry["separation"]["auc"]
    return "not measured" if auc is None else rounded(auc)


def _measured(rounds: Sequence[Mapping[str, Any]]) -> str:
    last = rounds[-1]
    notes = []
    if last.get("tokens_error") is not None:
        notes.append(
            f"Tokens of round {last['round']}, counted on a sample of its pages with {last['tokenizer']}: {short(last['tokens_counted'])} "
            f"± {short(last['tokens_error'])}."
        )
    if last.get("labelled"):
        notes.append(f"Average precision on {count(last['labelled']['pages'])} labelled pages, by round: ")
        notes.append(", ".join(rounded(entry["labelled"]["average_precision"]) for entry in rounds if entry.get("labelled")) + ".")
    return " ".join(notes)


def _scores(mine: ReportArtifact, rounds: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Draw histograms of the scores of all pages by round, with the thresholds."""
    scored = [entry for entry in rounds if entry.get("scores")]
    if not scored:
        return []
    drawn = [scored[place] for place in evenly(len(scored), MOST_PANELS)]
    marks = [min(FURTHEST, max(-FURTHEST, _log_odds(entry["threshold"]))) for entry in drawn]
    part = shown([entry["scores"] for entry in drawn], marks)
    panels = [
        Panel(f"round {entry['round']}", bins, mark, entry["threshold"])
        for entry, bins, mark in zip(drawn, part.counts, marks, strict=True)
    ]
    note = (
        "Number of pages by classifier score, for the whole crawl. If the classifier separates well, there are two peaks, and the "
        "threshold (dotted) is between them; if there is only one peak, the threshold cuts through it."
    )
    if part.beyond:
        note += f" The outermost bins include pages beyond them: at most {count(part.beyond)} per round."
    source = _records(mine, "rounds", f"{columns_of('part', round='int', threshold='double')}, part->'scores' as pages_by_bin")
    spec = histogram_panels(part.edges, panels, ticks(part.edges))
    chart = Chart("Scores of all pages, by round", spec, note, wide=True, tall=len(panels) > 1, source=source)
    return [chart, *_precision(mine, rounds)]


def _precision(mine: ReportArtifact, rounds: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Draw precision against recall on the labelled pages, by round."""
    curves = [
        Line(f"round {entry['round']}", [point[2] for point in points], [point[1] for point in points])
        for entry in rounds
        if entry.get("labelled") and (points := entry["labelled"].get("curve"))
    ]
    if not curves:
        return []
    spec = lines(curves, "recall", ".0%", (0, 1.02))
    spec["layout"]["xaxis"] |= {"tickformat": ".0%", "range": [0, 1.02]}
    note = "At each recall, the share of correct pages among those with at least this score."
    source = _records(mine, "rounds", "part->'round' as round, part->'labelled'->'curve' as threshold_precision_recall")
    return [Chart("Precision of the ranking on labelled pages", spec, note, source=source)]


def _log_odds(share: float) -> float:
    bounded = min(max(share, 1e-9), 1 - 1e-9)
    return math.log(bounded / (1 - bounded))


def _contamination(mine: ReportArtifact, record: Mapping[str, Any]) -> list[Block]:
    hits = record.get("contamination", [])
    if not hits:
        return []
    rows = [[str(hit["benchmark"]), str(hit["n"]), count(hit["pages"]), count(hit.get("segments"))] for hit in hits]
    note = ""
    if found := record.get("decontamination"):
        what = "whole pages were removed" if found["remove"] == "page" else "only matching segments were removed"
        note = (
            f"{count(found['pages_hit'])} pages match a benchmark, in {count(found['segments_hit'])} segments; {what}: "
            f"{count(found['pages_dropped'])} pages and {short(found['tokens_removed'])} tokens were removed. "
            "A page that matches two benchmarks counts for both."
        )
    headers = ["Benchmark", "n-gram", "Pages", "Segments"]
    source = json_source(mine, "rounds.json", "content->'contamination' as pages_that_quote, content->'decontamination' as removed")
    return [Table(headers, rows, frozenset({1, 2, 3}), "Pages that quote a benchmark", note=note, source=source)]


def _records(mine: ReportArtifact, among: str, columns: str) -> Source:
    return json_source(mine, "rounds.json", columns, among)


def _words(name: str) -> str:
    text = name.replace("_", " ").replace("url-", "URL-")
    return text[:1].upper() + text[1:]
