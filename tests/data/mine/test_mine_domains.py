from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from mathquarry.data.crawl.annotations import Annotations
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.domains.table import (
    Domain,
    PathPrefix,
    accept_unattended,
    domain_table,
    is_mathematical,
    to_arrow,
    wilson_interval,
)
from mathquarry.data.mine.rounds import ReviewedDomains, review_captures

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
            "score": pa.array([0.95 if number in collected else 0.31 for number in numbers], pa.float32()),
        }
    )
    connection.register("captures", table)
    return connection


def review(config: MineConfig) -> ReviewedDomains:
    with captures_of(ADDRESSES, COLLECTED) as captures:
        return review_captures(captures, config)


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


def test_a_verdict_needs_the_configured_number_of_pages() -> None:
    assert is_mathematical(5, 5, MineConfig(domain_min_pages=5))
    assert not is_mathematical(4, 4, MineConfig(domain_min_pages=5))


def test_a_share_that_is_reached_exactly_is_accepted() -> None:
    domain = Domain("x.org", "x.org", 10, 5, True, prefixes=[PathPrefix("/", 10, 5)])
    assert accept_unattended(domain, 0.5) == ["/"]


def test_the_table_has_the_twenty_largest_paths_of_a_host() -> None:
    prefixes = [PathPrefix(f"/{number}/", 99 - number, 1) for number in range(25)]
    (row,) = to_arrow([Domain("x.org", "x.org", 99, 50, True, prefixes=prefixes)], {}).to_pylist()
    assert [prefix["prefix"] for prefix in row["prefixes"]] == [f"/{number}/" for number in range(20)]
    assert row["accepted"] == []


def test_pages_outside_the_pool_do_not_count() -> None:
    table = domain_table(captures_of(ADDRESSES, COLLECTED, without=set(range(8, 16))), MineConfig())
    forum = next(domain for domain in table if domain.host == "forum.org")
    assert forum.pages == 8


def test_only_the_good_folder_of_a_mixed_host_is_accepted_and_a_flat_host_whole() -> None:
    reviewed = review(MineConfig())
    assert reviewed.accepted == {"flat.net": ["/"], "forum.org": ["/questions/"]}
    assert [ADDRESSES[capture] for capture in reviewed.uncollected] == [
        "forum.org/questions/5",
        "forum.org/questions/6",
        "forum.org/questions/7",
        "flat.net/5",
    ]


def test_a_folder_is_not_accepted_for_a_good_parent() -> None:
    prefixes = [PathPrefix("/", 100, 80), PathPrefix("/a/", 60, 55), PathPrefix("/b/", 40, 10), PathPrefix("/b/c/", 10, 9)]
    domain = Domain("x.org", "x.org", 100, 80, True, prefixes=prefixes)
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


def test_domain_table_lists_shares_intervals_scores_and_samples() -> None:
    reviewed = review(MineConfig())
    forum, *_ = to_arrow(reviewed.table, reviewed.accepted).to_pylist()
    assert (forum["host"], forum["share"], forum["accepted"]) == ("forum.org", 6 / 16, ["/questions/"])
    assert forum["share_low"] < forum["share"] < forum["share_high"]
    assert forum["scores"] == [0, 0, 0, 10, 0, 0, 0, 0, 0, 6]
    questions = next(prefix for prefix in forum["prefixes"] if prefix["prefix"] == "/questions/")
    assert (questions["pages"], questions["collected"], questions["share"]) == (8, 5, 5 / 8)
    assert len(questions["samples"]) == 8
    assert {"title": "title of /questions/0", "path": "/questions/0", "collected": True} in questions["samples"]
    assert len(forum["samples"]) == 10


def test_a_score_at_the_end_of_a_bin_counts_in_the_next_one_and_a_whole_one_in_the_last() -> None:
    with captures_of([f"x.org/{n}" for n in range(6)], {0}) as captures:
        table = captures.sql("select * from captures").to_arrow_table()
        scores = pa.array([0.0, 0.0999, 0.5, 0.999, 1.0, None], pa.float32())
        captures.register("captures", table.set_column(table.schema.get_field_index("score"), "score", scores))
        (domain,) = domain_table(captures, MineConfig())
    assert domain.scores == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]


def test_hosts_are_ordered_by_the_pages_to_expect_among_the_uncollected_of_each_folder() -> None:
    table = review(MineConfig()).table
    assert [(domain.host, domain.gain) for domain in table] == [
        ("forum.org", pytest.approx(3 * 5 / 8 + 7 * 1 / 8)),  # not 10 * 6 / 16: one folder says little of another
        ("news.com", pytest.approx(18 * 2 / 20)),
        ("flat.net", pytest.approx(1 * 5 / 6)),
        ("tiny.org", 0.0),
    ]
    forum = {prefix.prefix: prefix.gain for prefix in table[0].prefixes}
    assert forum == {"/": pytest.approx(2.75), "/questions/": pytest.approx(1.875), "/jobs/": pytest.approx(0.875)}


def test_by_the_wilson_rule_few_pages_prove_little() -> None:
    assert is_mathematical(6, 1, MineConfig())
    assert not is_mathematical(6, 1, MineConfig(domain_rule="wilson"))
    assert not is_mathematical(200, 22, MineConfig(domain_rule="wilson"))  # 11 %, at least 7.4 %
    assert is_mathematical(200, 32, MineConfig(domain_rule="wilson"))  # 16 %, at least 11.6 %


def test_samples_depend_on_the_seed_and_not_on_the_order_of_pages() -> None:
    addresses = [f"x.org/{n}" for n in range(60)]

    def sampled(seed: int, order: list[int]) -> list[str]:
        with captures_of(addresses, {0, 1}) as captures:
            pages = captures.sql("select * from captures").to_arrow_table().take(order)
            with duckdb.connect() as other:
                keys = pa.array([hash(("key", path)) % 2**63 for path in pages["path"].to_pylist()], pa.uint64())
                other.register("captures", pages.set_column(pages.schema.get_field_index("key"), "key", keys))
                return [sample.path for sample in domain_table(other, MineConfig(seed=seed))[0].samples]

    straight, back = list(range(60)), list(range(59, -1, -1))
    assert sampled(0, straight) == sampled(0, back)
    assert sampled(0, straight) != sampled(1, straight)
    assert len(set(sampled(0, straight))) == 10


def test_pages_with_any_key_may_be_samples() -> None:
    """Keys are 64-bit hashes, and half of them have their highest bit set. Some seeds draw such a page first, and others do not."""
    with captures_of([f"x.org/{n}" for n in range(40)], {0}) as captures:
        table = captures.sql("select * from captures").to_arrow_table()
        keys = pa.array([(n % 2 << 63) + n for n in range(40)], pa.uint64())
        captures.register("captures", table.set_column(table.schema.get_field_index("key"), "key", keys))
        first = [domain_table(captures, MineConfig(seed=seed))[0].samples[0].path for seed in (0, 2)]
    assert {int(path[1:]) % 2 for path in first} == {0, 1}


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
    reviewed = review(MineConfig(annotations=str(file)))
    assert reviewed.accepted == {"forum.org": ["/jobs"]}
    assert [ADDRESSES[capture] for capture in reviewed.uncollected] == [f"forum.org/jobs/{n}" for n in range(1, 8)]


def under(tmp_path: Path, paths: list[str], *verdicts: tuple[str, str]) -> list[str]:
    """The paths of x.org that an annotation file accepts."""
    file = tmp_path / "paths.toml"
    file.write_text("".join(f'[[path]]\nhost = "x.org"\nprefix = "{prefix}"\nverdict = "{verdict}"\n' for prefix, verdict in verdicts))
    with captures_of([f"x.org/{path}" for path in paths], set()) as captures:
        return [paths[capture] for capture in review_captures(captures, MineConfig(annotations=str(file))).uncollected]


def test_a_star_stands_for_any_part_of_one_folder(tmp_path: Path) -> None:
    paths = ["courses/12/maths", "courses/12/maths/a/b", "courses/maths", "courses/1/2/maths", "courses/7/art", "coursesX12/maths"]
    assert under(tmp_path, paths, ("/courses/*/maths", "accept")) == paths[:2]
    assert under(tmp_path, ["math-1/x", "math-2/y", "art/z"], ("/math-*", "accept"), ("/math-2/", "reject")) == ["math-1/x"]


def test_undecided_is_no_verdict(tmp_path: Path) -> None:
    paths = ["a/1", "a/b/2"]
    assert under(tmp_path, paths, ("/a", "accept"), ("/a/b", "undecided")) == paths
    assert under(tmp_path, paths, ("/a", "undecided")) == []


def test_one_path_with_two_verdicts_is_refused_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=r"paths\.toml, line 5: x\.org/a/ is reject here and accept in line 1"):
        under(tmp_path, ["a"], ("/a", "accept"), ("/a/", "reject"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[path]]\nhost = "x.org"\nverdict = "accept"\n\n[[path]]\nhost = "y.org"\nverdict = "maybe"\n',
            r"line 7, path\.1\.verdict: .*'maybe'",
        ),
        ('# verdicts\n[[path]]\nverdict = "accept"\n', r"line 2, path\.0\.host: Field required"),
        ('[[path]]\nhost = "https://x.org"\nverdict = "accept"', r"line 2, path\.0\.host: .*without scheme"),
        ('[[path]]\nhost = "x.org"\nverdict = "accept"\nanotator = "ab"', r"line 4, path\.0\.anotator"),
        ('[[path]]\nhost = "x.org"\nverdict = "accept"\ndate = "yesterday"', r"line 4, path\.0\.date"),
        ('[[path]]\nhost = "x.org"\nverdict = accept', r"not TOML: .*line 3"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "paths.toml"
    file.write_text(text)
    with pytest.raises(MathQuarryError, match=rf"paths\.toml.*{message}"):
        Annotations.read(file)


@pytest.mark.parametrize("prefix", ["/questions", "/questions/"])
def test_a_prefix_covers_itself_and_whole_segments_below_it(prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "paths.toml"
    file.write_text(f'[[path]]\nhost = "x.org"\nprefix = "{prefix}"\nverdict = "accept"\n')
    paths = ["questions", "questions/12", "questions-old/1", "other/questions"]
    with captures_of([f"x.org/{path}" for path in paths], set()) as captures:
        found = review_captures(captures, MineConfig(annotations=str(file))).uncollected
    assert [paths[capture] for capture in found] == ["questions", "questions/12"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[path", "not TOML"),
        ('[[path]]\nhost = "x"\nverdict = "maybe"', r"path\.0\.verdict"),
        ('[[path]]\nhost = "x"\nverdict = "accept"\nprefix = "q"', "starts with a slash"),
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
