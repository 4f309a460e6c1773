"""A mini-web with known answers, written as real WARC files: what mining should find, and what it should throw out, is recorded.

Hosts are of three kinds. Mathematical hosts have mathematics under one path and other pages beside it; on mixed hosts only a small path is
mathematical; the rest have none. A part of the mathematical pages is plain text without any markup for formulas, which a classifier
that learned from formula-rich pages finds less easily: the domain rounds are there for these. Planted on top: near-duplicates, other
captures of the same URL, and pages that quote a held-out question with its answer.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from data.config import GeneratedCrawl
from data.crawl.miniweb_text import ENCODINGS, TOPICS, Content, edited, math_content, other_content, render
from data.errors import MathQuarryError
from data.files import atomic_path
from data.problems.generated import WordProblem, draw_problem
from data.problems.problem import Problem
from data.workspace import Workspace

LARGEST = 12
"""Largest number in the problems drawn for pages; those from the training set have their own."""
TRAINING_SHARE = 0.3
"""Share of the problems on mathematical pages that are training problems; the others are drawn afresh."""
PLAIN_SHARE = 0.3
"""Share of mathematical pages without markup for formulas."""
MATH_HOST_SHARE, MIXED_HOST_SHARE = 0.3, 0.2
MATH_ON_MIXED_HOST = 0.15
OTHER_ON_MATH_HOST = 0.25
DATE = "2024-02-05T00:00:00Z"


@dataclass(frozen=True)
class Host:
    """A host, the path its mathematics is under (empty: none), and what its other pages are about."""

    name: str
    math_path: str
    topic: str


@dataclass(frozen=True)
class Truth:
    """One line of `truth.jsonl`. `planted` is "", "near-duplicate", "url-duplicate" or "contaminated"; `of` the URL that is repeated."""

    url: str
    host: str
    path_prefix: str
    label: str
    encoding: str = ""
    planted: str = ""
    of: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Capture:
    """A page as it goes into a WARC file."""

    truth: Truth
    content: Content


def generate_miniweb(config: GeneratedCrawl, train: list[Problem], test: list[Problem], seed: int, space: Workspace) -> dict[str, int]:
    """Write `warc/*.warc.gz` and `truth.jsonl` into `space.out`; the same config, problems and seed give the same bytes.

    Returns how many pages of each kind there are. Raises `MathQuarryError` when more pages are planted than there is room for.
    """
    planted = config.near_duplicates + config.url_duplicates + config.contaminated
    if planted * 2 > config.pages:
        raise MathQuarryError(f"crawl.source plants {planted} pages among {config.pages}; plant at most half of them or raise `pages`.")
    rng = random.Random(f"miniweb/{seed}")
    captures = list(_captures(config, train, test, rng))
    rng.shuffle(captures)
    shares = [captures[index :: config.warc_files] for index in range(config.warc_files)]
    with space.progress.track("write WARC files", len(captures), "page") as bar:
        for number, share in enumerate(shares):
            with atomic_path(space.out / "warc" / f"miniweb-{number:05d}.warc.gz") as temporary, temporary.open("wb") as file:
                file.write(_record("warcinfo", None, "application/warc-fields", b"software: mathquarry miniweb\r\n", rng))
                for capture in share:
                    file.write(_response(capture, rng))
                    bar.advance()
    with atomic_path(space.out / "truth.jsonl") as temporary, temporary.open("w", encoding="utf-8") as file:
        for capture in captures:
            file.write(json.dumps(asdict(capture.truth)) + "\n")
    kinds = [capture.truth.planted or capture.truth.label for capture in captures]
    return {"pages": len(captures)} | {kind.replace("-", "_"): kinds.count(kind) for kind in sorted(set(kinds))}


def _captures(config: GeneratedCrawl, train: list[Problem], test: list[Problem], rng: random.Random) -> Iterator[Capture]:
    hosts = _hosts(config.domains, rng)
    planted = config.near_duplicates + config.url_duplicates + config.contaminated
    ordinary: list[Capture] = []
    names = iter(range(10**9))
    held_out = {problem.question for problem in test}

    def math_page(questions: list[WordProblem] | None = None) -> Capture:
        mathematical = [host for host in hosts if host.math_path]
        weights = [1.0 if host.topic == "" else MATH_ON_MIXED_HOST for host in mathematical]
        host = rng.choices(mathematical, weights)[0]
        encoding = "none" if rng.random() < PLAIN_SHARE else rng.choice([name for name in ENCODINGS if name != "none"])
        problems = [*_problems(rng.randint(6, 11), train, held_out, rng), *(questions or [])]
        rng.shuffle(problems)
        url = f"https://{host.name}{host.math_path}{next(names)}-sheet"
        return Capture(Truth(url, host.name, host.math_path, "math", encoding), math_content(problems, encoding, rng))

    def other_page() -> Capture:
        host = rng.choices(hosts, [OTHER_ON_MATH_HOST if host.topic == "" else 1.0 for host in hosts])[0]
        topic = host.topic or rng.choice(sorted(TOPICS))
        path = f"/{topic if host.topic else 'about'}/"
        return Capture(Truth(f"https://{host.name}{path}{next(names)}.html", host.name, path, "other"), other_content(topic, rng))

    for _ in range(config.pages - planted):
        ordinary.append(math_page() if rng.random() < config.math_share else other_page())
    yield from ordinary

    copied = rng.sample(ordinary, config.near_duplicates + config.url_duplicates)
    for source in copied[: config.near_duplicates]:
        host = rng.choice(hosts)
        truth = replace(
            source.truth, url=f"https://{host.name}/mirror/{next(names)}", host=host.name, path_prefix="/mirror/",
            planted="near-duplicate", of=source.truth.url,
        )  # fmt: skip
        yield Capture(truth, edited(source.content, rng))
    for source in copied[config.near_duplicates :]:
        yield Capture(
            replace(source.truth, url=_variant(source.truth.url, rng), planted="url-duplicate", of=source.truth.url), source.content
        )
    for problem in rng.sample(test, min(config.contaminated, len(test))):
        page = math_page([WordProblem(problem.question, problem.answer, problem.solution)])
        yield Capture(replace(page.truth, planted="contaminated", problem=problem.id), page.content)


def _hosts(count: int, rng: random.Random) -> list[Host]:
    topics = sorted(TOPICS)
    hosts = []
    for number in range(count):
        if number < max(1, round(count * MATH_HOST_SHARE)):
            hosts.append(Host(f"sums{number}.example", rng.choice(["/questions/", "/lessons/", "/wiki/", "/exercises/"]), ""))
        elif number < max(1, round(count * MATH_HOST_SHARE)) + round(count * MIXED_HOST_SHARE):
            hosts.append(Host(f"school{number}.example", "/math/", rng.choice(topics)))
        else:
            topic = rng.choice(topics)
            hosts.append(Host(f"{topic}{number}.example", "", topic))
    return hosts


def _problems(count: int, train: list[Problem], held_out: set[str], rng: random.Random) -> list[WordProblem]:
    found: list[WordProblem] = []
    while len(found) < count:
        if rng.random() < TRAINING_SHARE:
            problem = rng.choice(train)
            found.append(WordProblem(problem.question, problem.answer, problem.solution))
            continue
        drawn = draw_problem(rng, LARGEST, rng.randint(1, 2))
        if drawn.question not in held_out:
            found.append(drawn)
    return found


def _variant(url: str, rng: random.Random) -> str:
    """The same page under a URL that is written differently."""
    scheme, rest = url.split("://")
    host, path = rest.split("/", 1)
    return rng.choice(
        [
            f"http://{host}/{path}",
            f"{scheme}://{host.upper()}/{path}",
            f"{scheme}://{host}:443/{path}",
            f"{url}?utm_source=feed&utm_medium=rss",
            f"{url}#top",
        ]
    )


def _response(capture: Capture, rng: random.Random) -> bytes:
    links = ["/", "/about", "/contact", *(f"/{topic}" for topic in rng.sample(sorted(TOPICS), 2))]
    body = render(capture.content, capture.truth.host, links).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return _record("response", capture.truth.url, "application/http; msgtype=response", head + body, rng)


def _record(kind: str, url: str | None, content_type: str, block: bytes, rng: random.Random) -> bytes:
    """A WARC record as a gzip member of its own."""
    target = f"WARC-Target-URI: {url}\r\n" if url else ""
    identifier = uuid.UUID(int=rng.getrandbits(128), version=4)
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{identifier}>\r\nWARC-Date: {DATE}\r\n{target}"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as member:
        member.write(head.encode() + block + b"\r\n\r\n")
    return packed.getvalue()
