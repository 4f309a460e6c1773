"""A page of the mini-web before it becomes HTML: its text, with formulas as TeX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tex:
    """A formula."""

    source: str
    display: bool = False


Inline = str | Tex


@dataclass(frozen=True)
class Heading:
    """A section heading."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Lines of words and formulas; within a paragraph a line ends with `<br>`."""

    lines: tuple[tuple[Inline, ...], ...]

    @classmethod
    def of(cls, *parts: Inline) -> Paragraph:
        """A paragraph of one line."""
        return cls((parts,))


Block = Heading | Paragraph


@dataclass(frozen=True)
class Document:
    """Title (also the page's first heading) and body."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def characters(self) -> int:
        """Length of title and body, formulas without their delimiters."""
        total = len(self.title)
        for block in self.blocks:
            if isinstance(block, Heading):
                total += len(block.text)
            else:
                total += sum(len(part) if isinstance(part, str) else len(part.source) for line in block.lines for part in line)
        return total


def map_words(document: Document, change: dict[tuple[int, int, int], str]) -> Document:
    """The document with some text parts replaced; keys are (block, line, part)."""
    blocks = list(document.blocks)
    for number, block in enumerate(blocks):
        if isinstance(block, Paragraph):
            lines = tuple(
                tuple(change.get((number, row, column), part) for column, part in enumerate(line)) for row, line in enumerate(block.lines)
            )
            blocks[number] = Paragraph(lines)
    return Document(document.title, tuple(blocks))
