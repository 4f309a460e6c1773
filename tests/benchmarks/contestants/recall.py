"""WARC -> pages that a classifier keeps, by one system: `recall.py NAME crawl.warc.gz classifier.bin threshold`."""

from __future__ import annotations

import sys
from pathlib import Path

from clock import measured

_BATCH = 256


def mathquarry(warc: str, model: str, threshold: float) -> dict:
    """fastwarc -> decode -> plain text and language -> collapsed classifier; extraction in a process with limits, as mining does it."""
    from mathquarry.data.crawl.warc import Page, read_pages
    from mathquarry.data.extract.limited import ExtractionStopped, Extractor
    from mathquarry.data.mine.classify.classifier import Classifier

    classifier = Classifier(Path(model))
    result = {"items": 0, "kept": 0}
    with Extractor(30.0, 2 << 30, careful=False) as extractor:
        extractor.extract("<p>warm</p>")
        with measured(result):
            texts: list[str] = []
            for page in read_pages(warc, 5_000_000):
                if not isinstance(page, Page):
                    continue
                result["items"] += 1
                try:
                    texts.append(extractor.extract(page.html).text)
                except ExtractionStopped:
                    continue
                if len(texts) == _BATCH:
                    result["kept"] += int((classifier.score(texts) >= threshold).sum())
                    texts = []
            result["kept"] += int((classifier.score(texts) >= threshold).sum())
            extractor.close()
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
