from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from data.config import MineConfig
from data.errors import MathQuarryError
from data.mine.annotations import Annotations
from data.mine.domains import Domain, PathPrefix, accept_unattended, domain_table, to_arrow, wilson_interval
from data.mine.rounds import Judgement, judge_captures

FORUM = [f"forum.org/questions/{n}" for n in range(8)] + [f"forum.org/jobs/{n}" for n in range(8)]
OTHERS = [f"news.com/{n}.html" for n in range(20)] + [f"tiny.org/{n}" for n in range(3)] + [f"flat.net/{n}" for n in range(6)]
ADDRESSES = FORUM + OTHERS + [f"empty.org/{n}" for n in range(7)]
COLLECTED = {0, 1, 2, 3, 4, 8, 16, 17}  # 5 questions, 1 job, 2 of 20 news
COLLECTED |= {36, 37, 38}  # all of tiny.org
COLLECTED |= {39, 40, 41, 42, 43}  # 5 of 6 of flat.net


def captures_of(addresses: list[str], collected: set[int], without: set[int] = frozenset()) -> duckdb.DuckDBPyConnection:
    """The view that `census` makes, of addresses by position."""
    numbers = [number for number in range(len(addresses)) if number not in without]
    split = [addresses[number].partition("/") for number in numbers]
    connection = duckdb.connect()
    table = pa.table(
        {
            "capture": pa.array(numbers),
            "host": [host for host, _, _ in split],
            "domain": [host for host, _, _ in split],
            "path": [f"/{path}" for _, _, path in split],
            "title": [f"title of /{path}" for _, _, path in split],
            "key": pa.array(numbers, pa.uint64()),
            "collected": [number in collected for number in numbers],
        }
    )
    connection.register("captures", table)
    return connection


def judged(config: MineConfig) -> Judgement:
    with captures_of(ADDRESSES, COLLECTED) as captures:
        return judge_captures(captures, config)


def test_a_domain_is_mathematical_above_the_share_and_with_enough_pages() -> None:
    table = {domain.host: domain for domain in domain_table(captures_of(ADDRESSES, COLLECTED), MineConfig())}
    assert {host: (d.pages, d.collected, d.mathematical) for host, d in table.items()} == {
        "forum.org": (16, 6, True),
        "news.com": (20, 2, False),  # 10 % is not more than 10 %
        "tiny.org": (3, 3, False),
        "flat.net": (6, 5, True),
    }
    assert [p.prefix for p in table["forum.org"].prefixes] == ["/", "/jobs/", "/questions/"]
    assert table["news.com"].prefixes == []


def test_pages_outside_the_pool_do_not_count() -> None:
    table = domain_table(captures_of(ADDRESSES, COLLECTED, without=set(range(8, 16))), MineConfig())
    forum = next(domain for domain in table if domain.host == "forum.org")
    assert forum.pages == 8


def test_only_the_good_folder_of_a_mixed_host_is_accepted_and_a_flat_host_whole() -> None:
    judgement = judged(MineConfig())
    assert judgement.accepted == {"flat.net": ["/"], "forum.org": ["/questions/"]}
    assert [ADDRESSES[capture] for capture in judgement.uncollected] == [
        "forum.org/questions/5",
        "forum.org/questions/6",
        "forum.org/questions/7",
        "flat.net/5",
    ]


def test_a_folder_is_not_accepted_for_a_good_parent() -> None:
    prefixes = [PathPrefix("/", 100, 80), PathPrefix("/a/", 60, 55), PathPrefix("/b/", 40, 10), PathPrefix("/b/c/", 10, 9)]
    domain = Domain("x.org", "x.org", 100, 80, True, prefixes)
    assert accept_unattended(domain, 0.5) == ["/a/", "/b/c/"]


@pytest.mark.parametrize(
    ("path", "prefixes"),
    [("", ["/"]), ("a.html", ["/"]), ("a/", ["/", "/a/"]), ("a/b", ["/", "/a/"]), ("a/b/c/d", ["/", "/a/", "/a/b/"])],
)
def test_prefixes_are_the_folders_of_a_path(path: str, prefixes: list[str]) -> None:
    with captures_of([f"x.org/{path}"], {0}) as captures:
        (domain,) = domain_table(captures, MineConfig(domain_min_pages=1))
    assert [prefix.prefix for prefix in domain.prefixes] == prefixes


def test_wilson_interval_matches_hand_worked_values() -> None:
    # Published example values: 8 of 10 at 95 % is 0.490 to 0.943.
    assert wilson_interval(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0


def test_domain_table_lists_shares_intervals_and_samples() -> None:
    judgement = judged(MineConfig())
    rows = to_arrow(judgement.table, judgement.accepted).to_pylist()
    forum = rows[0]
    assert (forum["host"], forum["share"], forum["accepted"]) == ("forum.org", 6 / 16, ["/questions/"])
    assert forum["share_low"] < forum["share"] < forum["share_high"]
    assert {"prefix": "/questions/", "pages": 8, "collected": 5, "share": 5 / 8} in forum["prefixes"]
    assert len(forum["titles"]) == 5


ANNOTATED = """
[[path]]
host = "Forum.org"
prefix = "/"
verdict = "reject"

[[path]]
host = "forum.org"
prefix = "/jobs"
verdict = "accept"
annotator = "somebody"
"""


def test_with_annotations_only_they_decide_and_the_longest_prefix_wins(tmp_path: Path) -> None:
    file = tmp_path / "paths.toml"
    file.write_text(ANNOTATED)
    judgement = judged(MineConfig(annotations=str(file)))
    assert judgement.accepted == {"forum.org": ["/jobs"]}
    assert [ADDRESSES[capture] for capture in judgement.uncollected] == [f"forum.org/jobs/{n}" for n in range(1, 8)]


@pytest.mark.parametrize("prefix", ["/questions", "/questions/"])
def test_a_prefix_covers_itself_and_whole_segments_below_it(prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "paths.toml"
    file.write_text(f'[[path]]\nhost = "x.org"\nprefix = "{prefix}"\nverdict = "accept"\n')
    paths = ["questions", "questions/12", "questions-old/1", "other/questions"]
    with captures_of([f"x.org/{path}" for path in paths], set()) as captures:
        found = judge_captures(captures, MineConfig(annotations=str(file))).uncollected
    assert [paths[capture] for capture in found] == ["questions", "questions/12"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[path", "not TOML"),
        ('[[path]]\nhost = "x"\nverdict = "maybe"', r"path\.0\.verdict"),
        ('[[path]]\nhost = "x"\nverdict = "accept"\nprefix = "q"', "begins with a slash"),
        ('[[path]]\nhost = "x"\nverdict = "accept"\ncolour = 1', "colour"),
    ],
)
def test_mistakes_in_an_annotation_file_are_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "paths.toml"
    file.write_text(content)
    with pytest.raises(MathQuarryError, match=message) as error:
        Annotations.read(file)
    assert "paths.toml" in str(error.value)


def test_a_missing_annotation_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=r"none\.toml does not exist"):
        Annotations.read(tmp_path / "none.toml")
