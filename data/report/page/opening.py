"""The top of a report: warnings, then two or three sentences about what happened, with links to the metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mathquarry.data.report.page.blocks import Section


@dataclass(frozen=True)
class Link:
    """A chart or table, by the id of its section and its title. Without a title, the section."""

    section: str
    title: str = ""


@dataclass(frozen=True)
class Sentence:
    """One sentence, and links to the metrics behind it."""

    text: str
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Opening:
    """Warnings come first. Either list can be empty."""

    warnings: Sequence[Sentence] = ()
    findings: Sequence[Sentence] = ()

    @property
    def lines(self) -> list[str]:
        """Return plain text for the terminal."""
        return [*(f"Warning: {sentence.text}" for sentence in self.warnings), *(sentence.text for sentence in self.findings)]


EMPTY = Opening()

Anchored = tuple[str, list[tuple[str, str]]]
"""The text of a sentence, and its links as (title, anchor)."""


def anchors_of(sections: Sequence[Section]) -> dict[int, str]:
    """Return an anchor for every block with a title, by the block's `id()`. Different titles get different anchors."""
    found: dict[int, str] = {}
    taken = {section.id for section in sections}
    for section in sections:
        for block in section.blocks:
            if not block.title:
                continue
            wanted = anchor = f"{section.id}-{re.sub(r'[^a-z0-9]+', '-', block.title.lower()).strip('-')}"
            number = 1
            while anchor in taken:
                number += 1
                anchor = f"{wanted}-{number}"
            taken.add(anchor)
            found[id(block)] = anchor
    return found


def anchored(sentences: Sequence[Sentence], sections: Sequence[Section], anchors: Mapping[int, str]) -> list[Anchored]:
    """Return the sentences with links to the page's metrics. If a metric is missing, its section is linked."""
    titles = {section.id: section.title for section in sections}
    places = {
        Link(section.id, block.title): anchors[id(block)]
        for section in reversed(sections)
        for block in reversed(section.blocks)
        if block.title
    }
    made = []
    for sentence in sentences:
        links = {}
        for link in sentence.links:
            if link in places:
                links[places[link]] = link.title
            elif link.section in titles:
                links[link.section] = titles[link.section]
        made.append((sentence.text, [(title, anchor) for anchor, title in links.items()]))
    return made
