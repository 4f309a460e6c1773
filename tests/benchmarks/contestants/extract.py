"""HTML -> text by one extractor: `extract.py NAME pages.jsonl [texts.jsonl]`. Pages are in memory before the clock starts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from clock import measured, read_lines, write_texts

# The package's defaults (configs/randomized_all.yaml, the likeliest value of each), except that nothing Chinese is removed.
OPENWEBMATH = {
    "extract_latex": True,
    "markdown_headings": True,
    "markdown_code": True,
    "remove_buttons": True,
    "remove_image_figures": True,
    "remove_link_clusters": True,
    "remove_chinese": False,
    "remove_edit_buttons": True,
    "table_config": {"min_rows": 2, "min_cols": 3, "format": "plain"},
    "boilerplate_config": {"enable": True, "ratio_threshold": 0.18, "absolute_threshold": 10, "end_threshold": 15},
}


def extractor(name: str) -> Callable[[str], str | None]:
    """The function from HTML to text of one contestant."""
    if name == "mathquarry":
        from mathquarry.data.extract.html import extract

        return lambda html: extract(html).text
    if name == "mathquarry-earlier":
        # At that revision the folders were packages of their own.
        earlier = importlib.import_module("data.extract.html")
        return lambda html: earlier.extract(html).text
    if name == "mathquarry-limited":
        from mathquarry.data.extract.limited import ExtractionStopped, Extractor

        limited = Extractor(30.0, 2 << 30)
        limited.extract("<p>warm</p>")

        def extract_limited(html: str) -> str:
            try:
                return limited.extract(html).text
            except ExtractionStopped:
                return ""

        extract_limited.close = limited.close  # type: ignore[attr-defined]
        return extract_limited
    if name == "openwebmath":
        from text_extract.extract import extract_text

        return lambda html: (extract_text(html, OPENWEBMATH) or ("", {}))[0]
    if name == "resiliparse":
        from resiliparse.extract.html2text import extract_plain_text

        return lambda html: extract_plain_text(html, main_content=True, alt_texts=False)
    if name == "trafilatura":
        import trafilatura

        return trafilatura.extract
    if name == "trafilatura-markdown":
        import trafilatura

        return lambda html: trafilatura.extract(html, output_format="markdown", include_formatting=True)
    raise SystemExit(f"no extractor {name}")


def main(name: str, pages_path: str, texts_path: str | None = None) -> None:
    """Extract all pages; a page on which the extractor raises counts as failed and gives no text."""
    pages = read_lines(pages_path)
    extract = extractor(name)
    texts: list[str] = []
    result = {"items": len(pages), "failed": 0}
    with measured(result):
        for page in pages:
            try:
                texts.append(extract(page["html"]) or "")
            except Exception:
                result["failed"] += 1
                texts.append("")
        if hasattr(extract, "close"):
            extract.close()
    write_texts(texts_path, [page["url"] for page in pages], texts)


if __name__ == "__main__":
    main(*sys.argv[1:])
