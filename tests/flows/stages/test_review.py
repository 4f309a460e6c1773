"""From the form between mining rounds to the decision that it means."""

from __future__ import annotations

import pytest

from mathquarry.data.crawl.annotations import Verdict
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.domains.review import Decision
from mathquarry.flows.stages.review import DomainReview


def test_the_form_as_it_is_takes_the_threshold() -> None:
    assert DomainReview().decision() == Decision()


def test_hosts_with_paths_and_pasted_toml_become_verdicts() -> None:
    form = DomainReview(
        decide="review by hand",
        accept=["https://Forum.org/questions"],
        reject=["blog.org"],
        toml='[[path]]\nhost = "notes.org"\nverdict = "accept"',
        others="reject",
        annotator="ab",
    )
    assert form.decision() == Decision(
        rest="reject",
        path=[
            Verdict(host="forum.org", prefix="/questions", verdict="accept", annotator="ab"),
            Verdict(host="blog.org", prefix="/", verdict="reject", annotator="ab"),
            Verdict(host="notes.org", verdict="accept"),
        ],
    )


@pytest.mark.parametrize(("fields", "message"), [({"accept": ["/questions"]}, "'/questions'"), ({"toml": "[[path"}, "not TOML")])
def test_what_makes_no_sense_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(MathQuarryError, match=message):
        DomainReview(decide="review by hand", **fields).decision()
