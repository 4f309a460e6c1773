"""Lineage graphs: in the report, and as a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.lineage import Graph, draw
from mathquarry.data.ledger.picture import lay_out, layers
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.source import Source
from mathquarry.data.report.sections.lineage_section import lineage_picture
from tests.data.report.report_run import HOSTILE, make_run

SOURCE = Source((), "")


def edges(*pairs: str) -> list[dict[str, str]]:
    """A graph of pairs "input completion"."""
    return [{"input": pair.split()[0], "key": pair.split()[1], "role": "role"} for pair in pairs]


def artifact(name: str, **inputs: str) -> ReportArtifact:
    return ReportArtifact(name, name.split("-")[0], f"key of {name}", Path(), {}, {}, inputs, 1.0, False)


def texts(svg: str) -> list[str]:
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            if data.strip():
                found.append(data)

    Reader().feed(svg)
    return found


def test_each_artifact_stands_after_everything_it_was_made_from() -> None:
    found = layers(edges("a b", "b c", "a c", "d c"), list("abcd"))
    assert found == {"a": 0, "b": 1, "c": 2, "d": 0}


def test_what_was_made_from_itself_is_refused() -> None:
    with pytest.raises(MathQuarryError, match="was made from itself"):
        layers(edges("a b", "b a"), ["a", "b"])


def test_edges_that_skip_layers_share_a_track_with_those_of_the_same_input_and_no_other_at_the_same_place() -> None:
    found = lay_out(edges("a b", "b c", "c d", "d e", "a c", "a e", "b d", "c e"), list("abcde"))
    assert found.track["a"] != found.track["b"] != found.track["c"] != found.track["a"]
    apart = lay_out(edges("a b", "b c", "c d", "d e", "a c", "c e"), list("abcde"))
    assert apart.track["a"] == apart.track["c"] == 0


def test_the_main_line_is_straight_and_what_nothing_came_of_stands_below() -> None:
    found = lay_out(edges("pretrain evaluate", "pretrain sft", "sft grpo"), ["pretrain", "evaluate", "sft", "grpo"])
    assert [found.place[name] for name in ("pretrain", "sft", "grpo", "evaluate")] == [0, 0, 0, 1]


def test_every_artifact_is_a_box_and_every_known_input_a_line_with_its_role(tmp_path: Path) -> None:
    _, artifacts = make_run(tmp_path)
    drawn = lineage_picture(artifacts, source=SOURCE)
    for shape in (drawn.across, drawn.down):
        assert shape.count("<rect") == len(artifacts)
        assert shape.count("<path") == sum(len(artifact.inputs) for artifact in artifacts)
        assert {"problems", "grpo-2", "evaluate-rl-2", "corpus", "policy"} <= set(texts(shape))


def test_an_input_from_elsewhere_is_left_to_the_table() -> None:
    drawn = lineage_picture([artifact("sft", base="key of pretrain")], source=SOURCE)
    assert (drawn.across.count("<rect"), drawn.across.count("<path")) == (1, 0)


def test_the_same_artifact_under_two_names_is_one_box() -> None:
    both: Sequence[ReportArtifact] = [
        ReportArtifact(name, "pretrain", "0123456789", Path(), {}, {}, {}, 1.0, False) for name in ("pretrain-a", "pretrain-b")
    ]
    assert "pretrain-a +1" in texts(lineage_picture(both, source=SOURCE).across)


def test_names_roles_and_keys_are_text_and_never_markup() -> None:
    made = [artifact(HOSTILE), artifact("sft", **{HOSTILE: f"key of {HOSTILE}"})]
    drawn = lineage_picture(made, source=SOURCE)
    for shape in (drawn.across, drawn.down):
        assert re.findall(r"<(script|img|/pre)", shape) == []
        assert texts(shape).count(HOSTILE) == 2


def test_the_picture_has_a_name_and_a_description_of_its_own_in_each_shape(tmp_path: Path) -> None:
    _, artifacts = make_run(tmp_path)
    drawn = lineage_picture(artifacts, source=SOURCE)
    for shape in (drawn.across, drawn.down):
        found = re.search(r'role="img" aria-labelledby="(\S+) (\S+)"><title id="\1">.+</title><desc id="\2">.+</desc>', shape)
        assert found


def assert_lines_lie_inside(svg: str, lines: int) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    drawn = [re.sub("[MCL]", " ", path.attrib["d"]).split() for path in root.iter() if path.tag.endswith("path")]
    assert len(drawn) == lines
    for numbers in drawn:
        assert all(0 < float(x) < width for x in numbers[::2])
        assert all(0 < float(y) < height for y in numbers[1::2])
    return root


def test_the_file_of_a_lineage_is_well_formed_and_everything_lies_inside_it() -> None:
    made = [{"key": key, "stage": f"<{key}>"} for key in "abcde"]
    svg = draw(Graph(made, edges("a b", "b c", "c d", "d e", "a c", "a e", "b d", "c e")), "e")
    root = assert_lines_lie_inside(svg, 8)
    assert sum(group.attrib.get("class") == "asked" for group in root.iter()) == 1


def test_no_line_of_the_reports_pictures_is_cut_off(tmp_path: Path) -> None:
    _, artifacts = make_run(tmp_path)
    drawn = lineage_picture(artifacts, source=SOURCE)
    for shape in (drawn.across, drawn.down):
        assert_lines_lie_inside(shape, sum(len(artifact.inputs) for artifact in artifacts))
