"""An exported chat template gives exactly the prompt tokens of training, with the tokenizers of published models."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.benchmark import language_of
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.prompts import PAPER
from mathquarry.models.export.template import PROBES, chat_template, check_template, encode_chat
from mathquarry.models.policy.checkpoint import load_tokenizer
from mathquarry.models.policy.prompts import Prompter
from tests.models.export.tokenizers import NAMES, tokenizer_folder

FORMATS: tuple[SolutionFormat, ...] = get_args(SolutionFormat)
CASES = [
    ("deepseek", "paper"),
    ("qwen", "paper"),
    ("qwen", "own"),
    ("smollm2", "paper"),
    ("smollm2", "own"),
    ("scratch", "paper"),
    ("scratch", "short"),
]


def pair(name: str, style: str, tmp: Path) -> tuple[Prompter, PreTrainedTokenizerBase]:
    """The prompter of training, and the exported tokenizer, loaded from its files."""
    prompter = Prompter(load_tokenizer(tokenizer_folder(name, tmp / "trained")), style)  # type: ignore[arg-type]
    exported = load_tokenizer(tmp / "trained")
    exported.chat_template = chat_template(prompter)
    exported.save_pretrained(tmp / "exported")
    return prompter, load_tokenizer(tmp / "exported")


SLOW = ("deepseek", "qwen")
"""These take seconds to load."""


@pytest.fixture(
    scope="module", params=[pytest.param(case, id="-".join(case), marks=[pytest.mark.slow] if case[0] in SLOW else []) for case in CASES]
)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Prompter, PreTrainedTokenizerBase]:
    return pair(*request.param, tmp_path_factory.mktemp("tokenizer"))


def asked(tokenizer: PreTrainedTokenizerBase, question: str, format: SolutionFormat = "cot") -> list[int]:
    return encode_chat(tokenizer, [{"role": "user", "content": question}], format)


def test_a_message_that_is_the_question_becomes_the_prompt_of_training(trained: tuple[Prompter, PreTrainedTokenizerBase]) -> None:
    prompter, exported = trained
    for question, language in PROBES:
        for format in FORMATS:
            assert asked(exported, question, format) == prompter.encode(question, format, language)
    check_template(prompter, exported)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_question_becomes_the_prompt_of_training(trained: tuple[Prompter, PreTrainedTokenizerBase], question: str) -> None:
    prompter, exported = trained
    # Hypothesis also tries strings of the code. The names of special tokens have a test of their own.
    assume(not any(token in question for token in exported.all_special_tokens))
    assert asked(exported, question) == prompter.encode(question, "cot", language_of(question))


def test_a_message_that_already_ends_in_the_sentence_gets_no_second_one(trained: tuple[Prompter, PreTrainedTokenizerBase]) -> None:
    prompter, exported = trained
    if prompter.style == "short":
        pytest.skip("its sentence is one word")
    asking = f"1+1?\n{PAPER['tool', 'en']}"
    assert asked(exported, asking, "cot") == prompter.encode("1+1?", "tool", "en")


def test_the_name_of_a_special_token_in_a_question_is_refused_or_read_as_training_read_it(
    trained: tuple[Prompter, PreTrainedTokenizerBase],
) -> None:
    prompter, exported = trained
    question = f"What does {exported.eos_token} mean?"
    if prompter.style == "own":
        assert asked(exported, question) == prompter.encode(question)
    else:
        with pytest.raises(TemplateError, match="special token"):
            asked(exported, question)
        assert exported.eos_token_id not in prompter.encode(question)


def test_other_formats_and_languages_are_refused_by_name(trained: tuple[Prompter, PreTrainedTokenizerBase]) -> None:
    _, exported = trained
    for wrong in ({"format": "latex"}, {"language": "fr"}):
        with pytest.raises(TemplateError, match="format is cot, pot, tool or none, and language is en or zh"):
            exported.apply_chat_template([{"role": "user", "content": "1+1?"}], **wrong)


def test_format_none_adds_no_sentence_and_the_language_can_be_given(trained: tuple[Prompter, PreTrainedTokenizerBase]) -> None:
    prompter, exported = trained
    text = exported.apply_chat_template([{"role": "user", "content": "1+1?"}], tokenize=False, format="none")
    assert not any(sentence in text for sentence in PAPER.values())
    ids = exported.apply_chat_template(
        [{"role": "user", "content": "1+1?"}], add_generation_prompt=True, tokenize=True, return_dict=False, language="zh"
    )
    assert ids == prompter.encode("1+1?", "cot", "zh")


def test_what_stands_before_an_answer_stays_when_the_conversation_goes_on(trained: tuple[Prompter, PreTrainedTokenizerBase]) -> None:
    _, exported = trained
    talk = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "And 2+2?"}]
    first = exported.apply_chat_template(talk[:1], tokenize=False, add_generation_prompt=True)
    assert exported.apply_chat_template(talk, tokenize=False, add_generation_prompt=True).startswith(first)


def test_a_template_that_was_exported_before_is_not_wrapped_again(tmp_path: Path) -> None:
    prompter, exported = pair("scratch", "paper", tmp_path)
    assert chat_template(Prompter(exported, "own")) == exported.chat_template
    assert Prompter(exported, "own").encode("1+1?", "pot") == prompter.encode("1+1?", "pot")


def test_a_template_that_does_not_give_the_prompts_of_training_is_found(tmp_path: Path) -> None:
    prompter, exported = pair("scratch", "paper", tmp_path)
    exported.chat_template = str(exported.chat_template).replace("'User: '", "'User:  '")
    with pytest.raises(MathQuarryError, match="cannot give the prompts of training: for 'Natalia sold"):
        check_template(prompter, exported)


def test_every_tokenizer_of_the_list_is_tried() -> None:
    assert {name for name, _ in CASES} == set(NAMES)
