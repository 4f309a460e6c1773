r"""The chat template of an exported policy. It turns a plain question into exactly the tokens of the training prompt.

A training prompt adds a sentence that asks for the format of the solution, and a frame (`data/solutions/prompts.py`).
The template adds both, so a chat message is only the question. If a message already ends in one of these sentences, no other is added. Two
variables choose the sentence. Chat endpoints take them as `chat_template_kwargs`, tokenizers as keyword arguments: `format` is `cot` (the
default), `pot`, `tool` or `none`, and `language` is `en` or `zh` (default: detected from the characters of the message).

A model was trained on single questions. In a longer conversation every question gets its sentence, so that the text before an answer does
not change when the conversation continues.

In training, the name of a special token inside a question is read as ordinary characters. A chat template cannot ask a tokenizer for that,
so in the styles `paper` and `short` it refuses such a message. In the style `own`, training uses the tokenizer's template too, so both
agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import get_args

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from mathquarry.data.config import Language
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.prompts import PAPER, SHORT, PromptStyle
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.tokenizer import start_tokens

PROBES: tuple[tuple[str, Language], ...] = (
    ("Natalia sold 48 clips in April and half as many in May. How many clips did she sell?", "en"),
    (r"Let $f(x)=\frac{x^2-1}{x+1}$ for $x \ne -1$." '\n\nFind $f\'(0)$; give {exact} values, e.g. "3/4".', "en"),
    ("  2+2=?  \n", "en"),
    ("12", "en"),
    ("小明有3个苹果，又买了5个。他现在有多少个苹果？", "zh"),
)
"""Questions on which the exported template is compared with the prompts of training."""

_LANGUAGE = """\
{%- macro language_of(text) -%}
{%- set found = namespace(language='en') -%}
{%- for character in text if character >= '\\u4e00' and character <= '\\u9fff' -%}{%- set found.language = 'zh' -%}{%- endfor -%}
{{- found.language -}}
{%- endmacro -%}
"""
_ASKED = """\
{%- macro asked(question) -%}
{%- set known = namespace(ends=false) -%}
{%- for sentence in all_sentences if question.endswith('\\n' + sentence) -%}{%- set known.ends = true -%}{%- endfor -%}
{{- question -}}
{%- if not known.ends and chosen_format != 'none' -%}
{{- '\\n' + sentences[chosen_format][language or language_of(question)] -}}
{%- endif -%}
{%- endmacro -%}
"""
_CHECKED = """\
{%- for message in messages if message['role'] == 'user' -%}
{%- for name in special_tokens if name in message['content'] -%}
{{- raise_exception('the message holds ' + name + ', the name of a special token, which training read as ordinary characters') -}}
{%- endfor -%}
{%- endfor -%}
"""
_PAPER = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{{- 'User: ' + asked(message['content']) + '\\n\\n' -}}
{%- elif message['role'] == 'assistant' -%}{{- 'Assistant: ' + message['content'] | trim + eos_token -}}
{%- else -%}{{- message['content'] + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}
"""
_SHORT = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{{- asked(message['content']) -}}
{%- elif message['role'] == 'assistant' -%}{{- message['content'] + eos_token -}}
{%- else -%}{{- message['content'] + '\\n' -}}
{%- endif -%}
{%- endfor -%}
"""
_OWN = """\
{%- set rewritten = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' and message['content'] is string -%}
{%- set rewritten.messages = rewritten.messages + [dict(message, content=asked(message['content']))] -%}
{%- else -%}
{%- set rewritten.messages = rewritten.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = rewritten.messages -%}
{{- '' }}"""


def chat_template(prompter: Prompter) -> str:
    """Return the Jinja template for the tokenizer of an exported checkpoint. A template made by this function is not wrapped again."""
    tokenizer, style = prompter.tokenizer, prompter.style
    if style == "own":
        own = str(tokenizer.get_chat_template())
        return own if own.startswith(_MADE) else _head(style) + _OWN + own
    start = "{{- bos_token -}}\n" if start_tokens(tokenizer) else ""
    names = _special_names(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    known = f"{{%- set special_tokens = {json.dumps(names)} -%}}\n"
    return _head(style) + known + _CHECKED + start + (_PAPER if style == "paper" else _SHORT)


def _special_names(names: Iterable[str]) -> list[str]:
    """Return the names. Of numbered names (`<|reserved_12|>`), which some tokenizers have by the thousand, return only the part before."""
    beginnings = {name: re.split(r"\d", name, maxsplit=1)[0] for name in names}
    return sorted({start if re.search(r"\w{3}", start) else name for name, start in beginnings.items()})


_MADE = "{#- Made by MathQuarry:"


def _head(style: PromptStyle) -> str:
    languages = get_args(Language)
    sentences = {
        format: {language: SHORT[format] if style == "short" else PAPER[format, language] for language in languages}
        for format in get_args(SolutionFormat)
    }
    every = sorted({sentence for by_language in sentences.values() for sentence in by_language.values()})
    return (
        f"{_MADE} the sentence that asks for a solution is added to each question; chat_template_kwargs: "
        "format = cot, pot, tool or none; language = en or zh. -#}\n"
        "{%- set chosen_format = format or 'cot' -%}\n"
        "{%- if chosen_format not in ['cot', 'pot', 'tool', 'none'] or (language and language not in ['en', 'zh']) -%}\n"
        "{{- raise_exception('format is cot, pot, tool or none, and language is en or zh') -}}\n{%- endif -%}\n"
        f"{{%- set sentences = {json.dumps(sentences)} -%}}\n{{%- set all_sentences = {json.dumps(every)} -%}}\n{_LANGUAGE}{_ASKED}"
    )


def check_template(prompter: Prompter, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare `tokenizer`'s chat template with the prompts of training on `PROBES`, in every format.

    Raises `MathQuarryError` with the first question whose token ids differ: no chat template can reproduce the prompts of training.
    """
    for question, language in PROBES:
        for format in get_args(SolutionFormat):
            wanted = prompter.encode(question, format, language)
            try:
                made = encode_chat(tokenizer, [{"role": "user", "content": question}], format)
            except TemplateError as error:
                raise MathQuarryError(f"the tokenizer's chat template fails: {error}. Set model.chat_template to `paper`.") from None
            if made != wanted:
                raise MathQuarryError(
                    f"this tokenizer's chat template cannot give the prompts of training: for {question!r} in format {format} it gives "
                    f"{tokenizer.decode(made)!r} ({len(made)} tokens), but training had {tokenizer.decode(wanted)!r} ({len(wanted)})."
                )


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], format: SolutionFormat) -> list[int]:
    """Encode a conversation up to where the model answers, with the template of an exported tokenizer.

    Raises `jinja2.TemplateError` if the template refuses a message.
    """
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False, format=format))
