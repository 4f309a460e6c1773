"""Cost of mining at sizes that nobody can try first: the formula of docs/scaling-mining.md, with measured rates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLAN = Path(__file__).resolve().parents[2] / "docs" / "scaling-mining.md"

SNAPSHOT, PAPER = 2.6e9, 40e9
PAGES_A_WARC, WARC_BYTES = 27_500, 1.0e9
ROUNDS = 4
SCORED = 18_000.0
"""Texts per second and core that a collapsed classifier scores."""
SURVIVORS = 0.03
"""Share of the pages that the first pass of any round lets through: a generous assumption; the paper keeps 0.09 % in the end."""
SIGNATURE_BYTES = 4 * 112
SURVIVOR_BYTES = 6_000
CORES = 128
GIGABITS = 10


@dataclass(frozen=True)
class Rates:
    """Pages per second of one core, and bytes on disk per page."""

    plain: float
    careful: float
    signatures: float
    capture_bytes: float

    def core_hours(self, pages: float) -> dict[str, float]:
        """Core-hours by step."""
        seconds = {
            "first pass: read, plain text, language, one score": pages / self.plain,
            "MinHash signatures of plain texts": pages / self.signatures,
            "scores of the other rounds": pages * (ROUNDS - 1) / SCORED,
            "careful extraction of survivors": pages * SURVIVORS / self.careful,
        }
        return {step: spent / 3600 for step, spent in seconds.items()}


def plan_lines(rates: Rates, worker_mib: float, page_kilobytes: float, circumstances: list[str]) -> list[str]:
    """The tables, from rates measured on pages of `page_kilobytes` on average and a worker that took `worker_mib`."""
    sizes = (SNAPSHOT, PAPER)
    steps = [rates.core_hours(pages) for pages in sizes]
    totals = [sum(step.values()) for step in steps]
    lines = [
        *circumstances,
        f"Rates a core, on pages of {page_kilobytes:.0f} kB: plain {rates.plain:.0f}, careful {rates.careful:.0f}, signatures "
        f"{rates.signatures:.0f} a second; {rates.capture_bytes / 1000:.1f} kB on disk a captured page.",
        "",
        "| | one snapshot, 2.6 billion pages | the paper, 40 billion pages |",
        "|---|---:|---:|",
    ]
    rows = [(f"{step}, core-hours", [f"{found[step]:,.0f}" for found in steps]) for step in steps[0]]
    rows += [
        ("**all of it, core-hours**", [f"**{total:,.0f}**" for total in totals]),
        (f"hours on {CORES} cores", [f"{total / CORES:,.0f}" for total in totals]),
        (f"memory of {CORES} workers, GiB", [f"{CORES * worker_mib / 1024:,.0f}"] * 2),
        ("WARC files", [f"{pages / PAGES_A_WARC:,.0f}" for pages in sizes]),
        ("read over the network, TB", [f"{pages / PAGES_A_WARC * WARC_BYTES / 1e12:,.0f}" for pages in sizes]),
        (
            f"hours of that at {GIGABITS} Gbit/s",
            [f"{pages / PAGES_A_WARC * WARC_BYTES * 8 / (GIGABITS * 1e9) / 3600:,.0f}" for pages in sizes],
        ),
        ("captures on disk (plain texts, index, signatures), TB", [f"{pages * rates.capture_bytes / 1e12:,.1f}" for pages in sizes]),
        ("of these, signatures, TB", [f"{pages * SIGNATURE_BYTES / 1e12:,.1f}" for pages in sizes]),
        ("texts of survivors, TB", [f"{pages * SURVIVORS * SURVIVOR_BYTES / 1e12:,.2f}" for pages in sizes]),
    ]
    return lines + [f"| {name} | {' | '.join(values)} |" for name, values in rows]
