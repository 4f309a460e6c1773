"""Configs of the crawl."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mathquarry.data.config import HOW, Config, Count, Positive, Share
from mathquarry.data.fetch.config import ClientConfig


class GeneratedCrawl(Config):
    """A mini-web with known answers, written as real WARC files (our own, for the `tiny` recipe)."""

    kind: Literal["generated"] = "generated"
    pages: Positive = Field(3000, description="Total number of HTML pages, including planted ones.")
    domains: Positive = Field(48, description="Hosts the pages are spread over.")
    math_share: Share = Field(0.35, description="Share of pages that are mathematical.")
    warc_files: Positive = Field(6, description="WARC files the pages are written to.")
    near_duplicates: Count = Field(120, description="Pages that repeat another page with small edits.")
    url_duplicates: Count = Field(40, description="Captures of a URL that was captured before in another spelling.")
    contaminated: Count = Field(60, description="Mathematical pages that quote a held-out question with its answer.")


class CrawlFiles(Config):
    """Existing WARC files."""

    kind: Literal["files"] = "files"
    warcs: list[str] = Field(description="Paths, globs or fsspec URLs of WARC files.")


class CommonCrawl(Config):
    """Files of a Common Crawl snapshot, selected from its list of paths."""

    kind: Literal["common-crawl"] = "common-crawl"
    crawl: str = Field(pattern=r"^[\w.-]+$", description="Crawl id, for example CC-MAIN-2026-10.")
    files: Literal["warc", "wet"] = Field("warc", description="`warc`: pages as HTML; `wet`: their plain text, without formulas.")
    base_url: str = Field("https://data.commoncrawl.org", pattern="^https?://", description="URL of the crawls, or of a mirror.")
    begin: Count = Field(0, description="Index in the list of the first file to use.")
    end: Positive | None = Field(None, description="Index after the last file to use; none means the end of the list.")
    sample: Positive | None = Field(None, description="Files to draw from the slice at random, by `crawl.seed`; none means all.")
    fetch: Literal["download", "stream"] = Field(
        "download",
        description="`download`: files go into the artifact; `stream`: mining reads them over the network, keeping nothing on disk.",
    )
    max_file_gib: float = Field(4.0, gt=0, description="Larger files are refused (our choice; Common Crawl's have about 1 GiB).")
    client: ClientConfig = Field(ClientConfig(), description="How politely files are fetched.", json_schema_extra=HOW)


class CommonCrawlRecords(Config):
    """Single pages of a Common Crawl snapshot, found in its columnar index: those under accepted paths, not collected yet."""

    kind: Literal["common-crawl-records"] = "common-crawl-records"
    crawl: str = Field(pattern=r"^[\w.-]+$", description="Crawl id, for example CC-MAIN-2026-10.")
    base_url: str = Field("https://data.commoncrawl.org", pattern="^https?://", description="URL of the crawls, or of a mirror.")
    index: list[str] = Field([], description="Index files: paths, globs or URLs; empty means the snapshot's own.")
    annotations: str = Field(description="TOML file of accepted and rejected URL path prefixes.")
    known: list[str] = Field(
        [], description="Parquet files or globs with a column `canonical_url` or `url`, whose pages are skipped, such as corpora."
    )
    limit: Positive | None = Field(None, description="Most pages to fetch, in the order of the WARC files; none means all.")
    memory_gib: float = Field(4.0, gt=0, description="Memory for a query of the index; beyond it, data goes to disk (our choice).")
    client: ClientConfig = Field(ClientConfig(), description="How politely files are fetched.", json_schema_extra=HOW)


class CrawlConfig(Config):
    """Stage `crawl`: the WARC files that mining reads."""

    source: GeneratedCrawl | CrawlFiles | CommonCrawl | CommonCrawlRecords = Field(
        GeneratedCrawl(), discriminator="kind", description="Where the WARC files come from."
    )
    seed: int = Field(0, description="Seed of generation.")
