"""Configs of the mining rounds (paper section 2.1)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mathquarry.data.config import HOW, Config, Count, Positive, Share


class ClassifierConfig(Config):
    """The fastText page classifier (paper section 2.1)."""

    dim: Positive = Field(256, description="Vector dimension (paper).")
    learning_rate: float = Field(0.1, gt=0, description="Learning rate (paper).")
    word_ngrams: Positive = Field(3, description="Longest word n-gram (paper).")
    min_count: Positive = Field(3, description="Minimum number of occurrences of a word (paper).")
    epochs: Positive = Field(3, description="Passes over the seed (paper).")
    buckets: Positive = Field(2_000_000, description="Hash buckets for n-grams (our choice: fastText's default).")
    threads: Positive = Field(1, description="Training threads (our choice): 1 is reproducible, more are faster but not reproducible.")


class SeedConfig(Config):
    """The first round's examples (paper: 500,000 OpenWebMath pages against 500,000 random Common Crawl pages)."""

    positives: Positive = Field(500_000, description="Positive pages (paper).")
    negatives: Positive = Field(500_000, description="Negative pages, drawn at random from the crawl (paper).")
    most_of_crawl: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5,
        description="Negatives are at most this share of the crawl's unique pages: a classifier that saw nearly all of them as "
        "negatives finds nothing (our choice).",
    )
    negatives_per_positive: float = Field(
        10.0, gt=0, description="Most negatives per positive (our choice; the paper has one per positive)."
    )
    source: Literal["file", "file-urls", "crawl-formulas"] = Field(
        "file",
        description="`file`: texts from `path` (paper); `file-urls`: the crawl's own pages at the URLs of `path`, so that "
        "both classes went through one extractor and the classifier cannot learn the extractor (our choice); "
        "`crawl-formulas`: the crawl's pages with the most formulas (our choice, for crawls without a seed).",
    )
    path: str | None = Field(
        None,
        description="Parquet or JSONL (.gz, .zst, .bz2): a path, glob or URL; or a hub dataset, `hf://owner/name[:config[:split]]`.",
    )
    text_column: str = Field("text", description="Column of the texts.")
    url_column: str = Field("url", description="Column of their URLs, if there is one.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub dataset; none means the newest.")
    streaming: bool = Field(
        False,
        description="Download only the part of a hub dataset that the sample needs; it is then random only among neighbors (our choice).",
    )


class DedupConfig(Config):
    """MinHash near-duplicate removal (parameters are our choice; the paper says only that it was done)."""

    bands: Positive = Field(14, description="LSH bands.")
    rows: Positive = Field(8, description="Rows in a band; 14 x 8 has its threshold near a Jaccard similarity of 0.72.")
    ngram: Positive = Field(5, description="Words in a shingle; digits and symbols count as words.")
    threshold: Share = Field(0.7, description="Least estimated Jaccard similarity of duplicates.")


class DecontaminationConfig(Config):
    """Benchmark decontamination (paper section 2.1)."""

    ngram: Positive = Field(10, description="A page that shares an n-gram of this many words with a benchmark text is dropped (paper).")
    shortest: Positive = Field(3, description="Benchmark texts of this many words up to `ngram` - 1 are matched whole (paper).")
    short_answers: bool = Field(
        False,
        description="Match short answers too (paper literally); off, since 3-word answers occur in ordinary text.",
    )
    distinct_words: Count = Field(
        3,
        description="An n-gram with fewer different words of two letters or more (1 2 3 4 5 .., x 1 x 2 x 3 ..) quotes nobody "
        "and is not matched (our choice; 0 is the paper literally).",
    )
    remove: Literal["page", "segment"] = Field(
        "page", description="What is removed: the whole page (our choice), or only the segments with a quotation (paper: text segments)."
    )
    longest_segment: Positive = Field(
        1000, description="A block between blank lines is a segment; longer ones, in characters, are split at sentences (our choice)."
    )


class RecallConfig(Config):
    """The first of two passes (our choice): plain text of every page. Only pages that pass a first classifier are extracted carefully."""

    enabled: bool = Field(True, description="Off: every page is extracted carefully. Suits crawls of a few hundred thousand pages.")
    keep: Share = Field(0.99, description="Share of held-out seed positives that must pass the first classifier; it sets the threshold.")
    held_out: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="Share of the seed held out of the first classifier's training to set its threshold."
    )
    spare: Annotated[float, Field(ge=1)] = Field(
        1.25, description="Seed candidates extracted per wanted seed page: some turn out empty or quote a benchmark."
    )


class SeparationConfig(Config):
    """The check of each round's classifier before it scores: held-out positives against held-out negatives (our choice)."""

    held_out: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.1, description="Share of each class that is held out: at least 20 pages, if that is at most a fifth, and at most 5,000."
    )
    least_pages: Annotated[int, Field(ge=2)] = Field(
        10, description="With fewer held-out pages of a class, nothing is held out, and the round reports that it was not measured."
    )
    least_auc: Share = Field(
        0.7,
        description="Mining stops below this area under the ROC curve (0.5 is chance). Negatives are random pages: where a share p of them "
        "is mathematics, a perfect classifier has about 1 - p / 2. 0 never stops.",
    )


class WorkersConfig(Config):
    """The workers of a stage. Nothing here changes its result."""

    engine: Literal["processes", "threads", "ray"] = Field("processes", description="`ray` needs the extra `ray`, and shared storage.")
    count: Positive = Field(2, description="Processes or threads; a Ray cluster decides for itself.")
    ray_address: str | None = Field(None, description="`auto` or host:port of a Ray cluster; without one, a cluster on this machine.")
    partitions: Positive = Field(16, description="Parts that crawl-wide steps (duplicate removal) are split into; each is a job.")
    memory_gib: float = Field(2.0, gt=0, description="Memory of one crawl-wide query in DuckDB; beyond it, data goes to the scratch disk.")


class MineConfig(Config):
    """Stage `mine`: rounds of corpus mining with domain discovery (paper section 2.1)."""

    classifier: ClassifierConfig = ClassifierConfig()
    seed_pages: SeedConfig = SeedConfig()
    separation: SeparationConfig = SeparationConfig()
    recall: RecallConfig = RecallConfig()
    dedup: DedupConfig = DedupConfig()
    decontamination: DecontaminationConfig = DecontaminationConfig()
    token_budgets: list[Positive] = Field(
        [40_000_000_000, 89_000_000_000, 118_000_000_000, 120_000_000_000],
        min_length=1,
        description="Tokens kept in each round, best score first; the last value is repeated. Paper: 40B, 89B, (118B implied), 120B.",
    )
    max_rounds: Positive = Field(4, description="Maximum number of rounds (paper: 4).")
    stop_overlap: Share = Field(
        0.98, description="Stop when this share of a round's tokens was already collected in the previous round (paper)."
    )
    domain_share: Share = Field(0.10, description="A domain is mathematical when more than this share of its pages was collected (paper).")
    domain_rule: Literal["share", "wilson"] = Field(
        "share",
        description="What must exceed `domain_share`: the share itself (paper), or the lower end of its 95 % interval (our choice).",
    )
    domain_min_pages: Positive = Field(5, description="Domains with fewer pages are not classified (our choice).")
    annotations: str | None = Field(
        None, description="TOML file of accepted and rejected URL path prefixes; without one, `path_share` decides."
    )
    review: str | None = Field(
        None,
        pattern=r"^[\w-]+$",
        description="Name of a person's review between rounds, in served runs; if unset, nobody is asked and `path_share` decides.",
    )
    path_share: Share = Field(
        0.5,
        description="Unattended: accept a path prefix of a mathematical domain when this share of its pages was collected (our choice).",
    )
    tokenizer: str | None = Field(
        None,
        description="A tokenizer.json or its folder: each round's tokens are counted on a sample, and budgets are spent by that count. "
        "Without one, a token is four bytes of text (our choice).",
    )
    token_sample: Positive = Field(1000, description="Pages in that sample (our choice).")
    labelled: str | None = Field(
        None,
        description="JSONL of labelled pages (`url`, `label`) on which each round's classifier is measured; never trained on (our choice).",
    )
    min_characters: Count = Field(100, description="Pages with less text are dropped (our choice).")
    max_page_bytes: Positive = Field(5_000_000, description="Larger HTML bodies are dropped unread (our choice).")
    page_seconds: float = Field(30.0, gt=0, description="Time limit for extracting one page; beyond it, the page is dropped (our choice).")
    page_memory_gib: float = Field(
        2.0, ge=0.5, description="Memory limit of the process that extracts a page; beyond it, the page is dropped (our choice)."
    )
    workers: WorkersConfig = Field(WorkersConfig(), description="The workers that process the crawl.", json_schema_extra=HOW)
    seed: int = Field(0, description="Seed of the negative sample and of the classifier.")
