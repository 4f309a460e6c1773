"""Stage `crawl`: the list of WARC files that mining reads, generated or already here."""

from __future__ import annotations

from pathlib import Path

from data.config import CrawlConfig, GeneratedCrawl
from data.crawl.miniweb import generate_miniweb
from data.files import file_digest, write_json
from data.problems.problem import read_problems
from data.sources import expand, identify
from data.workspace import Workspace


def build_crawl(config: CrawlConfig, problems: Path, space: Workspace) -> dict[str, int]:
    """Write `warcs.json` ({"files": [{"path", "sha256", "bytes"}]}): paths inside the artifact for a generated crawl, else as given.

    `problems` holds `train.jsonl` and `test.jsonl`, which the mini-web's pages use. Raises `MathQuarryError` for a missing WARC file.
    """
    if isinstance(config.source, GeneratedCrawl):
        train, test = read_problems(problems / "train.jsonl"), read_problems(problems / "test.jsonl")
        summary = generate_miniweb(config.source, train, test, config.seed, space)
        paths = sorted((space.out / "warc").iterdir())
        files = [{"path": f"warc/{path.name}", "sha256": file_digest(path), "bytes": path.stat().st_size} for path in paths]
    else:
        sources = [source for path in expand(config.source.warcs) for source in identify(path)]
        files = [{"path": source.path, "sha256": source.sha256, "bytes": source.bytes} for source in sources]
        summary = {}
    write_json(space.out / "warcs.json", {"files": files})
    return {"warc_files": len(files), **summary}
