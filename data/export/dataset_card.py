"""The card of an exported corpus: columns, mining, decontamination, lineage, and terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.export.markdown import code, front_matter, lineage_table, plain, public_name, table
from mathquarry.data.report.page.blocks import percent

COLUMNS = {
    "url": "address of the page, in canonical spelling",
    "host": "its host",
    "text": "its text; formulas between dollar signs",
    "score": "the last round's classifier",
    "tokens": "estimated tokens",
    "formulas": "number of formulas",
    "formula_kinds": "their encodings, with counts",
    "language": "`en`, `zh`, or another code",
    "round": "mining round that first collected it",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


TERMS = """## Terms

This card grants no licence. The pages remain their publishers' property, and crawls have their own terms of use (Common Crawl:
commoncrawl.org/terms-of-use). Addresses are kept so that pages can be found and removed. Web pages contain personal data, errors and
opinions; they were not reviewed by a person."""


@dataclass(frozen=True)
class CorpusFacts:
    """The data for a card."""

    title: str
    parts: Sequence[pq.FileMetaData]
    record: Mapping[str, Any]
    """The artifact's rounds.json."""
    quotations: int
    lineage: Sequence[tuple[int, str, Mapping[str, Any]]]
    """The result of `Ledger.lineage`."""

    @property
    def pages(self) -> int:
        """Number of pages in the corpus."""
        return sum(part.num_rows for part in self.parts)


def dataset_card(facts: CorpusFacts) -> str:
    """The card as markdown."""
    size = next((name for limit, name in _SIZES if facts.pages < limit), "n>10M")
    head = front_matter(
        {
            "pretty_name": facts.title,
            "task_categories": ["text-generation"],
            "tags": ["mathquarry", "mathematics", "web"],
            "size_categories": [size],
            "configs": [
                {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}], "default": True},
                {"config_name": "decontamination", "data_files": [{"split": "train", "path": "decontamination/*.parquet"}]},
            ],
        }
    )
    parts = [head, f"# {plain(facts.title)}", _about(facts), _mining(facts), _decontamination(facts), _lineage(facts), TERMS]
    return "\n\n".join(parts) + "\n"


def _about(facts: CorpusFacts) -> str:
    rows = [[code(name), meaning] for name, meaning in COLUMNS.items()]
    return (
        "Mathematical web pages, mined from a crawl with MathQuarry, an open implementation of the DeepSeekMath recipe (arXiv 2402.03300): "
        f"{facts.pages:,} pages.\n\n```python\nfrom datasets import load_dataset\n\n"
        f'pages = load_dataset("THIS_FOLDER", split="train")\n```\n\n{table(["Column", "Meaning"], rows)}'
    )


def _mining(facts: CorpusFacts) -> str:
    rows = [[str(done["round"]), f"{done['pages']:,}", f"{done['tokens']:,}", percent(done["overlap"])] for done in facts.record["rounds"]]
    steps = [[plain(step["step"]), f"{step['pages']:,}"] for step in facts.record["funnel"]]
    return (
        "## How it was mined\n\nA classifier is trained on seed pages, scores the crawl, and the best pages are kept. Domains with many "
        "of them add pages to the seed of the next round (section 2.1 of the paper).\n\n"
        f"{table(['Round', 'Pages', 'Tokens (estimated)', 'Collected before'], rows)}\n\n{table(['Pages left after', 'Pages'], steps)}"
    )


def _decontamination(facts: CorpusFacts) -> str:
    totals = facts.record["decontamination"]
    unit = "the whole page was removed" if totals["remove"] == "page" else "the matching segments were removed"
    rows = [[plain(hit["benchmark"]), str(hit["n"]), f"{hit['pages']:,}", f"{hit['segments']:,}"] for hit in facts.record["contamination"]]
    found = table(["Benchmark", "Matching words", "Pages", "Segments"], rows) if rows else "No page matches a benchmark."
    return (
        f"## Decontamination\n\nIf a page shared an n-gram with a benchmark's text, {unit}. "
        f"{totals['pages_hit']:,} pages matched a benchmark, {totals['pages_dropped']:,} were dropped, and about "
        f"{totals['tokens_removed']:,} tokens were removed. Counts are in `decontamination.json`, and the "
        f"config `decontamination` has a row for each of the {facts.quotations:,} matches, without the words.\n\n{found}"
    )


def _lineage(facts: CorpusFacts) -> str:
    config = json.loads(facts.lineage[0][2]["config"])
    settings = f"<details><summary>Settings</summary>\n\n```json\n{json.dumps(_without_folders(config), indent=2)}\n```\n\n</details>"
    return f"## Lineage\n\n{lineage_table(facts.lineage)}\n\n{settings}"


def _without_folders(value: Any) -> Any:
    """A config without the folders of this machine."""
    if isinstance(value, dict):
        return {name: _without_folders(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_folders(part) for part in value]
    return public_name(value) if isinstance(value, str) and value.startswith(("/", "~", ".")) else value
