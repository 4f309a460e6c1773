"""WARC -> pages a classifier keeps, by one system: `recall.py NAME crawl.warc.gz classifier.bin threshold`."""

from __future__ import annotations

import sys
from pathlib import Path

from clock import measured

_BATCH = 256


def mathquarry(warc: str, model: str, threshold: float) -> dict:
    """fastwarc -> decode -> resiliparse's plain text -> language -> collapsed classifier, in this process."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    from data.crawl.warc import Page, read_pages
    from data.extract.language import detect_language
    from data.extract.nesting import is_too_deep, without_tags
    from data.mine.classifier import Classifier

    classifier = Classifier(Path(model))
    result = {"items": 0, "kept": 0}
    languages: dict[str, int] = {}
    with measured(result):
        texts: list[str] = []
        for page in read_pages(warc, 5_000_000):
            if not isinstance(page, Page):
                continue
            tree = HTMLTree.parse(without_tags(page.html) if is_too_deep(page.html) else page.html)
            text = extract_plain_text(tree, main_content=True, alt_texts=False)
            language = detect_language(text)
            languages[language] = languages.get(language, 0) + 1
            texts.append(text)
            result["items"] += 1
            if len(texts) == _BATCH:
                result["kept"] += int((classifier.score(texts) >= threshold).sum())
                texts = []
        result["kept"] += int((classifier.score(texts) >= threshold).sum())
    return result


def datatrove(warc: str, model: str, threshold: float) -> dict:
    """WarcReader -> Trafilatura -> FastTextClassifierFilter, with datatrove's defaults, but lines are joined with a space."""
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.filters.fasttext_filter import FastTextClassifierFilter
    from datatrove.pipeline.readers import WarcReader

    path = Path(warc)
    reader = WarcReader(str(path.parent), glob_pattern=path.name)
    extractor = Trafilatura()
    keep = FastTextClassifierFilter(model, keep_labels=("math", threshold), newline_replacement=" ")
    keep.model  # noqa: B018  loads it before the clock starts
    result = {"items": 0, "kept": 0}

    def counted(documents):
        for document in documents:
            result["items"] += 1
            yield document

    with measured(result):
        result["kept"] = sum(1 for _ in keep.run(extractor.run(counted(reader.run()))))
    return result


def main(name: str, warc: str, model: str, threshold: str) -> None:
    """Run one system."""
    {"mathquarry": mathquarry, "datatrove": datatrove}[name](warc, model, float(threshold))


if __name__ == "__main__":
    main(*sys.argv[1:])
