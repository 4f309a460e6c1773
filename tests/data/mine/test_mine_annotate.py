"""From the domain table to an annotation file, edited by a person, and back into mining."""

from pathlib import Path

import pytest

from mathquarry.data.crawl.annotations import Annotations
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.domains.annotate import clean, format_domains, read_domains, write_skeleton
from mathquarry.data.mine.loop import mine
from mathquarry.data.store.workspace import Workspace


def row(host: str = "forum.org", prefix: str = "/questions/", title: str = "A title") -> dict:
    counts = {"pages": 8, "collected": 5, "share": 0.625, "share_low": 0.306, "share_high": 0.863, "gain": 1.875}
    samples = [{"title": title, "path": f"{prefix}1", "collected": True}, {"title": "", "path": f"{prefix}2", "collected": False}]
    prefixes = [{"prefix": prefix, "samples": samples, **counts}]
    return {"host": host, "mathematical": True, "accepted": [prefix], "prefixes": prefixes, "samples": samples, **counts}


def test_the_skeleton_holds_numbers_samples_and_no_verdict(tmp_path: Path) -> None:
    file = tmp_path / "paths.toml"
    assert write_skeleton([row()], file) == 1
    assert file.read_text().split("\n\n", 1)[1] == (
        "# 5 of 8 pages collected, 62 % (30.6 to 86.3 %); expected gain 1.9 pages; accepted without a person\n"
        "#   + /questions/1  A title\n"
        "#   - /questions/2\n"
        '[[path]]\nhost = "forum.org"\nprefix = "/questions/"\nverdict = "undecided"\nannotator = ""\nnote = ""\n'
    )
    assert Annotations.read(file).paths("accept") == {}


def test_written_again_it_keeps_what_a_person_wrote_and_adds_what_is_new(tmp_path: Path) -> None:
    file = tmp_path / "paths.toml"
    write_skeleton([row()], file)
    edited = file.read_text().replace('"undecided"', '"accept"').replace('annotator = ""', 'annotator = "ab"  # seen twice')
    file.write_text(edited)
    assert write_skeleton([row(), row("other.net", "/")], file) == 1
    assert file.read_text().startswith(edited)
    assert write_skeleton([row(), row("other.net", "/")], file) == 0
    assert [(verdict.host, verdict.verdict) for verdict in Annotations.read(file).verdicts] == [
        ("forum.org", "accept"),
        ("other.net", "undecided"),
    ]


@pytest.mark.parametrize("hostile", ['x"\nverdict = "accept"', "a\r\n[[path]]", "a\u2028b", "\x7f\x00", "\\", "'''", "\u202eevil"])
def test_titles_and_addresses_stay_in_their_comment_or_string(hostile: str, tmp_path: Path) -> None:
    file = tmp_path / "paths.toml"
    write_skeleton([row(prefix=f"/{hostile}/", title=hostile)], file)
    (verdict,) = Annotations.read(file).verdicts
    assert (verdict.prefix, verdict.verdict) == (f"/{hostile}/", "undecided")
    assert clean(hostile).isprintable()


def test_a_file_that_is_no_annotation_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("[mine]\nseed = 1\n")
    with pytest.raises(MathQuarryError, match=r"recipe\.toml"):
        write_skeleton([row()], file)
    assert file.read_text() == "[mine]\nseed = 1\n"


def test_from_the_table_through_an_edited_file_to_the_seed_of_the_next_round(
    mine_config: MineConfig, crawl: Path, problems: Path, tmp_path: Path
) -> None:
    first = Workspace.at(tmp_path / "first")
    config = mine_config.model_copy(update={"token_budgets": [5000, 8500], "max_rounds": 1})
    mine(config, crawl, problems, first)
    rows = read_domains(first.out)
    printed = format_domains(rows, limit=1).splitlines()
    assert printed[1].startswith("forum.example.org")
    assert any(line.startswith("  /questions/") and line.endswith("accepted") for line in printed)
    assert printed[-1] == f"and {len(rows) - 1:,} more; see --limit"

    file = tmp_path / "paths.toml"
    assert write_skeleton(rows, file) > 1
    text = file.read_text()
    jobs = text.index('prefix = "/jobs/"')
    file.write_text(text[:jobs] + text[jobs:].replace('"undecided"', '"accept"', 1))

    second = Workspace.at(tmp_path / "second")
    mine(config.model_copy(update={"annotations": str(file), "max_rounds": 2}), crawl, problems, second)
    (before, after) = read_json(second.out / "rounds.json")["rounds"]
    assert before["accepted_paths"] == ["forum.example.org/jobs/"]
    assert after["seed_positives"] == 10 + before["pages_added"]
    assert before["pages_added"] >= 10  # the jobs, of which the first round collects few
