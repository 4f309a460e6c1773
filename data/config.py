"""Typed configs of the text stages. Defaults are the paper's numbers (arXiv 2402.03300); "our choice" marks what it leaves open.

Every config rejects unknown keys, so a misspelt field in a recipe fails before any work starts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Language = Literal["en", "zh"]
SolutionFormat = Literal["cot", "pot", "tool"]
ProblemSet = Literal[
    "gsm8k",
    "math",
    "cmath",
    "mgsm-zh",
    "gaokao-mathqa",
    "gaokao-mathcloze",
    "sat",
    "ocw",
    "mmlu-stem",
    "math23k",
    "lila-ood",
    "mathinstruct",
    "cn-k12",
]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]

HOW: dict[str, Any] = {"result": False}
"""`json_schema_extra` of a field that says how work is done and cannot change what comes out: workers, memory."""


class Config(BaseModel):
    """Base of every config: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def identity(self) -> dict[str, Any]:
        """What makes an artifact of this config another one: every field, except those declared with `HOW`."""
        found = {}
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra != HOW:
                value = getattr(self, name)
                found[name] = value.identity() if isinstance(value, Config) else self.model_dump(mode="json", include={name})[name]
        return found


class GeneratedProblems(Config):
    """Arithmetic word problems with step-by-step solutions, made from a seed (our own, for the `tiny` recipe)."""

    kind: Literal["generated"] = "generated"
    train: Positive = Field(4000, description="Training problems.")
    test: Positive = Field(1000, description="Held-out problems; none shares its text with a training problem.")
    largest: Positive = Field(12, description="Largest number a question mentions.")
    two_step_share: Share = Field(0.5, description="Share of problems that need two operations.")


class ProblemFiles(Config):
    """Problem sets from local files or the Hugging Face hub."""

    kind: Literal["files"] = "files"
    dataset: ProblemSet = Field("gsm8k", description="How to read files that name no set of their own.")
    train: list[str] = Field(
        description="Training problems: files (JSONL or JSON, may be gzipped) or `hf://owner/name[@revision]:config:split`, "
        "each of `dataset`, or of "
        "another set as `SET=PATH`; `SET=hub` is that set's own split on the hub."
    )
    test: list[str] = Field(description="Held-out problems, named in the same ways; never trained on.")
    train_limit: Positive | None = Field(None, description="Use the first N training problems after a seeded shuffle.")
    test_limit: Positive | None = Field(None, description="Use the first N held-out problems after a seeded shuffle.")


class ProblemsConfig(Config):
    """Stage `problems`: the questions that are trained on and the ones that are only scored."""

    source: GeneratedProblems | ProblemFiles = Field(GeneratedProblems(), discriminator="kind", description="Where they come from.")
    benchmarks: list[str] = Field([], description="Further benchmark files, used only to decontaminate the corpus.")
    seed: int = Field(0, description="Seed of generation, shuffling and limits.")


class GeneratedCrawl(Config):
    """A mini-web with known answers, written as real WARC files (our own, for the `tiny` recipe)."""

    kind: Literal["generated"] = "generated"
    pages: Positive = Field(3000, description="HTML pages in all, planted ones included.")
    domains: Positive = Field(48, description="Hosts the pages are spread over.")
    math_share: Share = Field(0.35, description="Share of pages that are mathematical.")
    warc_files: Positive = Field(6, description="WARC files the pages are written to.")
    near_duplicates: Count = Field(120, description="Pages that repeat another page with small edits.")
    url_duplicates: Count = Field(40, description="Captures of a URL that was captured before, written in another form.")
    contaminated: Count = Field(60, description="Mathematical pages that quote a held-out question with its answer.")


class CrawlFiles(Config):
    """WARC files that are already here."""

    kind: Literal["files"] = "files"
    warcs: list[str] = Field(description="Paths, globs or fsspec URLs of WARC files.")


class ClientConfig(Config):
    """How files are fetched over HTTP (all our choice). What is fetched does not depend on it."""

    connections: Positive = Field(4, description="Connections to one host at a time, over all processes of this machine.")
    attempts: Positive = Field(8, description="Attempts in a row that bring nothing new before a file is given up.")
    first_wait_seconds: float = Field(1.0, gt=0, description="Longest wait before the second attempt; doubles with each further one.")
    longest_wait_seconds: float = Field(120.0, gt=0, description="Longest wait between attempts that the server did not ask for.")
    cooldown_seconds: float = Field(
        300.0, gt=0, description="Pause of every connection to a host after 403; the second one is twice as long."
    )
    timeout_seconds: float = Field(30.0, gt=0, description="A connection that brings nothing for so long is dropped.")
    contact: str = Field("", description="Address or URL that the User-Agent names, for the server's owners.")


class CommonCrawl(Config):
    """Files of a Common Crawl snapshot, by its list of paths."""

    kind: Literal["common-crawl"] = "common-crawl"
    crawl: str = Field(pattern=r"^[\w.-]+$", description="Crawl id, for example CC-MAIN-2026-10.")
    files: Literal["warc", "wet"] = Field("warc", description="`warc`: pages as HTML; `wet`: their plain text, without formulas.")
    base_url: str = Field("https://data.commoncrawl.org", pattern="^https?://", description="Where the crawls lie; a mirror will do.")
    begin: Count = Field(0, description="First file of the slice of the list that is used.")
    end: Positive | None = Field(None, description="File before which the slice ends; none is the end of the list.")
    sample: Positive | None = Field(None, description="Use so many files of the slice, drawn at random by `crawl.seed`; none is all.")
    fetch: Literal["download", "stream"] = Field(
        "download",
        description="`download`: files become part of the artifact; `stream`: mining reads them over the network, nothing stays on disk.",
    )
    max_file_gib: float = Field(4.0, gt=0, description="A larger file is refused (our choice; Common Crawl's have about 1 GiB).")
    client: ClientConfig = Field(ClientConfig(), description="How politely files are fetched.", json_schema_extra=HOW)


class CommonCrawlRecords(Config):
    """Single pages of a Common Crawl snapshot: those under accepted paths, by its columnar index, that are not collected yet."""

    kind: Literal["common-crawl-records"] = "common-crawl-records"
    crawl: str = Field(pattern=r"^[\w.-]+$", description="Crawl id, for example CC-MAIN-2026-10.")
    base_url: str = Field("https://data.commoncrawl.org", pattern="^https?://", description="Where the crawls lie; a mirror will do.")
    index: list[str] = Field([], description="Index files: paths, globs or URLs; none is the snapshot's own list.")
    annotations: str = Field(description="TOML file of accepted and rejected URL path prefixes.")
    known: list[str] = Field(
        [], description="Parquet files or globs with a column `canonical_url` or `url`, whose pages are not wanted: corpora, for example."
    )
    limit: Positive | None = Field(None, description="Pages at most, the first in the order of the WARC files; none is all.")
    memory_gib: float = Field(4.0, gt=0, description="Memory of a query to the index; beyond it, data goes to disk (our choice).")
    client: ClientConfig = Field(ClientConfig(), description="How politely files are fetched.", json_schema_extra=HOW)


class CrawlConfig(Config):
    """Stage `crawl`: the WARC files that mining reads."""

    source: GeneratedCrawl | CrawlFiles | CommonCrawl | CommonCrawlRecords = Field(
        GeneratedCrawl(), discriminator="kind", description="Where they come from."
    )
    seed: int = Field(0, description="Seed of generation.")


class ClassifierConfig(Config):
    """The fastText page classifier (paper section 2.1)."""

    dim: Positive = Field(256, description="Vector dimension (paper).")
    learning_rate: float = Field(0.1, gt=0, description="Learning rate (paper).")
    word_ngrams: Positive = Field(3, description="Longest word n-gram (paper).")
    min_count: Positive = Field(3, description="Least number of occurrences of a word (paper).")
    epochs: Positive = Field(3, description="Passes over the seed (paper).")
    buckets: Positive = Field(2_000_000, description="Hash buckets for n-grams (our choice: fastText's default).")
    threads: Positive = Field(1, description="Training threads (our choice): 1 is reproducible, more is faster and is not.")


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
        10.0, gt=0, description="Negatives are at most so many for each positive (our choice; the paper has one for each)."
    )
    source: Literal["file", "file-urls", "crawl-formulas"] = Field(
        "file",
        description="`file`: texts from `path` (paper); `file-urls`: the crawl's own pages at the URLs of `path`, so that "
        "both classes went through one extractor and the classifier cannot learn the extractor (our choice); "
        "`crawl-formulas`: the crawl's pages with most formulas (our choice, for crawls without a seed).",
    )
    path: str | None = Field(
        None,
        description="Parquet or JSONL (.gz, .zst, .bz2): a path, glob or URL; or a hub's data set, `hf://owner/name[:config[:split]]`.",
    )
    text_column: str = Field("text", description="Column of the texts.")
    url_column: str = Field("url", description="Column of their addresses, where there is one.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub's data set; none is its newest.")
    streaming: bool = Field(
        False,
        description="Download of a hub's data set only what the sample needs; it is then random among neighbours only (our choice).",
    )


class DedupConfig(Config):
    """MinHash near-duplicate removal (parameters are our choice; the paper says only that it was done)."""

    bands: Positive = Field(14, description="LSH bands.")
    rows: Positive = Field(8, description="Rows in a band; 14 x 8 has its threshold near a Jaccard similarity of 0.72.")
    ngram: Positive = Field(5, description="Words in a shingle; digits and symbols count as words.")
    threshold: Share = Field(0.7, description="Estimated Jaccard similarity from which two pages are duplicates.")


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
        "page", description="What goes: the whole page (our choice), or only the segments that quote (paper: text segments)."
    )
    longest_segment: Positive = Field(
        1000, description="A block between blank lines is a segment; longer ones, in characters, are split at sentences (our choice)."
    )


class RecallConfig(Config):
    """The first of two passes (our choice): plain text of every page; only what a first classifier lets through is extracted carefully."""

    enabled: bool = Field(True, description="Off: every page is extracted carefully. Right for crawls of some hundred thousand pages.")
    keep: Share = Field(
        0.99, description="Share of held-out seed positives that the first pass must let through; its threshold follows from that."
    )
    held_out: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="Share of the seed kept out of the first classifier's training to set its threshold."
    )
    spare: Annotated[float, Field(ge=1)] = Field(
        1.25, description="Seed candidates extracted for each seed page wanted: some prove empty or quote a benchmark."
    )


class SeparationConfig(Config):
    """The check of each round's classifier before it scores: held-out positives against held-out negatives (our choice)."""

    held_out: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.1, description="Share of each class that is not trained on: at least 20 pages, if that is no more than a fifth, at most 5,000."
    )
    least_pages: Annotated[int, Field(ge=2)] = Field(
        10, description="With fewer held-out pages of a class nothing is held out, and the round says that it was not measured."
    )
    least_auc: Share = Field(
        0.7,
        description="Mining stops below this area under the ROC curve (0.5 is chance). Negatives are random pages: where a share p of them "
        "is mathematics, a perfect classifier has about 1 - p / 2. 0 never stops.",
    )


class WorkersConfig(Config):
    """Who does the work of a stage. Nothing here changes its result."""

    engine: Literal["processes", "threads", "ray"] = Field("processes", description="`ray` needs the extra `ray`, and shared storage.")
    count: Positive = Field(2, description="Processes or threads; a Ray cluster decides for itself.")
    ray_address: str | None = Field(None, description="`auto` or host:port of a Ray cluster; without one, a cluster on this machine.")
    partitions: Positive = Field(16, description="Parts into which crawl-wide steps (duplicate removal) are cut; each is a job.")
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
        description="Tokens kept in each round, best score first; the last is repeated. Paper: 40B, 89B, (118B implied), 120B.",
    )
    max_rounds: Positive = Field(4, description="Rounds at most (paper: 4).")
    stop_overlap: Share = Field(
        0.98, description="Stop when this share of a round's tokens was already collected in the round before (paper)."
    )
    domain_share: Share = Field(0.10, description="A domain is mathematical when more than this share of its pages was collected (paper).")
    domain_rule: Literal["share", "wilson"] = Field(
        "share",
        description="What must exceed `domain_share`: the share itself (paper), or the lower end of its 95 % interval (our choice).",
    )
    domain_min_pages: Positive = Field(5, description="Domains with fewer pages are not judged (our choice).")
    annotations: str | None = Field(
        None, description="TOML file of accepted and rejected URL path prefixes; without one `path_share` decides."
    )
    review: str | None = Field(
        None,
        pattern=r"^[\w-]+$",
        description="Name of a person's review between rounds, in served runs; none: nobody is asked, `path_share` decides.",
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
    token_sample: Positive = Field(1000, description="Pages of that sample (our choice).")
    labelled: str | None = Field(
        None,
        description="JSONL of labelled pages (`url`, `label`) on which each round's classifier is measured; never trained on (our choice).",
    )
    min_characters: Count = Field(100, description="Pages with less text are dropped (our choice).")
    max_page_bytes: Positive = Field(5_000_000, description="Larger HTML bodies are dropped unread (our choice).")
    page_seconds: float = Field(30.0, gt=0, description="Longest time that extracting one page may take; then it is dropped (our choice).")
    page_memory_gib: float = Field(
        2.0, ge=0.5, description="Most memory of the process that extracts a page; then it is dropped (our choice)."
    )
    workers: WorkersConfig = Field(WorkersConfig(), description="Who reads the WARC files.", json_schema_extra=HOW)
    seed: int = Field(0, description="Seed of the negative sample and of the classifier.")


class CurateConfig(Config):
    """Stage `curate`: problems -> chain-of-thought, program-of-thought and tool-integrated solutions (paper section 3.1)."""

    formats: dict[SolutionFormat, Annotated[float, Field(gt=0)]] = Field(
        {"cot": 1.0, "pot": 1.0, "tool": 1.0},
        description="Share of problems that get a solution in each format (1.0: all).",
    )
    wrong_step_share: Share = Field(
        0.0,
        description="Share of generated chain-of-thought solutions whose last step takes the wrong operation (our choice, `tiny` only).",
    )
    seed: int = Field(0, description="Seed of the choice of formats and of the planted errors.")


class ProgramsConfig(Config):
    """Where a model's programs run, and what they may use (our choices; see docs/sandbox.md)."""

    sandbox: Literal["container", "local", "service", "arithmetic"] = Field(
        "container",
        description="`container`: a Docker container; `local`: bubblewrap; `service`: one that runs already, at `socket`; "
        "`arithmetic`: no Python, only assignments of arithmetic and `print(name)`.",
    )
    unsafe: bool = Field(False, description="`local` without bubblewrap: programs can then read every file that you can read.")
    image: str | None = Field(None, description="Image of the container (none: the one that `make sandbox` builds).")
    socket: str | None = Field(None, description="Unix socket of a running service.")
    seconds: float = Field(10.0, gt=0, description="Longest time of one program, or of one block of a dialogue.")
    memory_mib: Annotated[int, Field(ge=256)] = Field(512, description="Memory of one program; Python with its libraries takes 160 of it.")
    output_bytes: Annotated[int, Field(ge=64, le=2**17)] = Field(16_384, description="What is kept of a program's output.")
    running: Positive = Field(2, description="Programs that run at the same time; no more than there are cores for them.")
    sessions: Positive = Field(256, description="Dialogues that are open at the same time.")
    held_mib: Positive = Field(
        8192, description="Memory of all dialogues together between their blocks; beyond it, the one that holds most is ended."
    )


class GradeConfig(Config):
    """The answer checker; integrals, sums and limits go to math-verify, in a process that is killed when it takes too long."""

    timeout_seconds: float = Field(5.0, gt=0, description="Limit for one answer, in seconds of processor time (our choice).")
    workers: Positive = Field(1, description="Checker processes.")
