"""Step ends are token indices, found without decoding the completion."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mathquarry.models.policy.steps import StepMarker
from mathquarry.models.policy.tokenizer import encode
from tests.models.rl.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
MARKER = StepMarker(TOKENIZER)
EOS = TOKENIZER.eos_token_id


def steps_of(text: str, *, finished: bool = True) -> list[str]:
    """The steps as text, cut at the ends that the marker finds."""
    completion = encode(TOKENIZER, text) + ([EOS] if finished else [])
    starts_and_ends = [0, *[end + 1 for end in MARKER.ends(completion)]]
    return [TOKENIZER.decode(completion[a:b]) for a, b in pairwise(starts_and_ends)]


def test_a_step_ends_with_its_newline_and_the_last_with_the_final_token() -> None:
    assert steps_of("3+4=7\n7-2=5\nThe answer") == ["3+4=7\n", "7-2=5\n", "The answer<eos>"]


def test_a_cut_off_output_ends_its_last_step_where_it_was_cut() -> None:
    assert steps_of("3+4=7\n7-", finished=False) == ["3+4=7\n", "7-"]


@pytest.mark.parametrize("text", ["3+4=7", "3+4=7\n", "3+4=7\n\n", "\n3+4=7\n \n"])
@pytest.mark.parametrize("finished", [True, False])
def test_blank_lines_and_eos_make_no_step_of_their_own(text: str, finished: bool) -> None:
    assert len(steps_of(text, finished=finished)) == 1


def test_blank_lines_between_steps_belong_to_the_step_before() -> None:
    assert steps_of("3+4=7\n\n\n7-2=5") == ["3+4=7\n\n\n", "7-2=5<eos>"]


def test_the_final_token_always_ends_a_step() -> None:
    for text in ["", "\n", " ", "3\n4", "3\n4\n"]:
        completion = [*encode(TOKENIZER, text), EOS]
        assert MARKER.ends(completion)[-1] == len(completion) - 1


def test_an_empty_output_has_no_steps() -> None:
    assert MARKER.ends([]) == []


def test_tokens_beyond_the_vocabulary_are_content() -> None:
    newline = encode(TOKENIZER, "\n")
    assert MARKER.ends([5000, *newline, 5000]) == [1, 2]
