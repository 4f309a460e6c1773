"""The card of an exported policy: usage, scores, lineage, and licenses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mathquarry.data.export.markdown import code, front_matter, lineage_table, plain, public_name, table
from mathquarry.data.fetch.hub import is_hub_name
from mathquarry.data.report.page.scores import Scores, read_lenient_scores, read_scores
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.solutions.prompts import PromptStyle, prompt_text

Row = Mapping[str, Any]

LICENCES = {
    "gsm8k": "GSM8K: MIT",
    "math": "MATH: MIT",
    "lila-ood": "Lila: CC BY 4.0",
    "cn-k12": "NuminaMath-CoT: Apache 2.0",
}
"""Licenses as stated on the sets' own pages; other sets are listed without one."""


READINGS = """Strict reading: only a box is an answer. Lenient reading: also text after "the answer is" or at the end. Published
scores of one model can differ by 20 points between two such readings. ± is one standard error over questions."""


@dataclass(frozen=True)
class CardFacts:
    """The data for a card."""

    title: str
    style: PromptStyle
    lineage: Sequence[tuple[int, str, Row]]
    """The result of `Ledger.lineage`; empty for an external model."""
    scores: Sequence[Row]
    """Ledger rows of this policy's `evaluate` artifacts."""
    questions: Mapping[str, str]
    """Key of a `problems` artifact -> description of its held-out questions."""
    version: str
    """Version of MathQuarry."""
    adapters: bool = False
    """Whether the folder holds adapters in peft's format, beside the model they belong to."""


def model_card(facts: CardFacts) -> str:
    """The card as markdown."""
    rows = [row for _, _, row in facts.lineage if not row["repeated"]]
    start = _start(rows)
    head = front_matter(
        {
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "base_model": start if start and is_hub_name(start) else None,
            "language": ["en", "zh"],
            "tags": ["mathquarry", "mathematics", *sorted({row["stage"] for row in rows} & {"sft", "grpo"})],
        }
    )
    parts = [
        head,
        f"# {plain(facts.title)}",
        "A language model that reasons about mathematics, made with MathQuarry, an open implementation of the DeepSeekMath recipe "
        "(arXiv 2402.03300).",
        _usage(facts.style, facts.adapters),
        _scores(facts),
        _lineage(facts),
        _licences(rows, start),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


WHOLE = """```python
from transformers import pipeline

ask = pipeline("text-generation", "THIS_FOLDER")
print(ask([{"role": "user", "content": "What is 12 * 12 - 44?"}])[0]["generated_text"][-1]["content"])
```

With vLLM:

```sh
vllm serve THIS_FOLDER
```"""

APART = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("THIS_FOLDER/base"), "THIS_FOLDER")
ask = pipeline("text-generation", model, tokenizer=AutoTokenizer.from_pretrained("THIS_FOLDER"))
print(ask([{"role": "user", "content": "What is 12 * 12 - 44?"}])[0]["generated_text"][-1]["content"])
```

These are low-rank adapters (LoRA); `base` is the model to which they are added. With vLLM, request the model `answers`:

```sh
vllm serve THIS_FOLDER/base --enable-lora --max-lora-rank RANK --lora-modules answers=THIS_FOLDER
```"""


def _usage(style: PromptStyle, adapters: bool) -> str:
    shown = prompt_text("QUESTION", "cot", "en", style)
    frame = " inside the frame of the start model's own chat template" if style == "own" else ""
    return f"""## Usage

The chat template turns a question into the training prompt, so send only the question as the message:

{APART if adapters else WHOLE}

The model's input{frame}:

```text
{shown}
```

`chat_template_kwargs` of a request select another prompt: `{{"format": "pot"}}` asks for a program that prints the answer,
`{{"format": "tool"}}` for reasoning with programs, which the client must run to add their output (`mathquarry sample --format tool` does
this in a sandbox), `{{"format": "none"}}` adds no sentence, and `{{"language": "zh"}}` selects the Chinese sentence, the default for
questions with Chinese characters. The final answer is in `\\boxed{{}}`. The scores below are greedy unless stated otherwise: with vLLM, set
`temperature` to 0."""


def _scores(facts: CardFacts) -> str:
    rows = []
    for row in facts.scores:
        summary, config = json.loads(row["summary"]), json.loads(row["config"])["evaluate"]
        of = facts.questions.get(row["key"], "held-out questions")
        formats: list[SolutionFormat] = config.get("formats", ["cot"])
        for format in formats:
            prefix = "" if format == formats[0] else f"{format}_"
            own = {name.removeprefix(prefix): value for name, value in summary.items() if name.startswith(prefix)}
            readings: list[tuple[str, Scores | None]] = [("strict", read_scores(own)), ("lenient", read_lenient_scores(own))]
            for reading, scores in readings:
                if scores is not None:
                    metrics = ", ".join(f"{name} {score}" for name, score in scores.columns().items() if name != "Greedy")
                    rows.append([plain(of), format, reading, f"{scores.questions or 0:,}", str(scores.greedy), metrics or "–"])
    if not rows:
        return ""
    return f"## Scores\n\n{table(['Questions', 'Format', 'Reading', 'Number', 'Greedy', 'Sampled'], rows)}\n\n{READINGS}"


def _lineage(facts: CardFacts) -> str:
    if not facts.lineage:
        return f"## Lineage\n\nThis model was not made in the store it was exported from. Exported with MathQuarry {code(facts.version)}."
    return (
        "## Lineage\n\nEach artifact is followed by its inputs. A key is a hash of the stage, its config, its source files and "
        f"the keys of its inputs.\n\n{lineage_table(facts.lineage)}"
    )


def _licences(rows: Sequence[Row], start: str | None) -> str:
    notes = []
    if start:
        notes.append(f"The weights started from {code(start)}, and its licence applies to them too.")
    sets = sorted({name for row in rows if row["stage"] == "problems" for name in _problem_sets(json.loads(row["config"]))})
    if sets:
        known = [LICENCES.get(name, f"{name}: see where it was published") for name in sets]
        notes.append(f"Problem sets: {plain('; '.join(known))}.")
    if any(row["stage"] == "crawl" and json.loads(row["config"])["crawl"]["source"]["kind"] != "generated" for row in rows):
        notes.append("The training data include web pages, which remain their publishers' property. Crawls have their own terms of use.")
    if not notes:
        notes.append("All training data was generated by MathQuarry (Apache 2.0)." if rows else "The training data are unknown.")
    lines = "\n".join(f"- {note}" for note in notes)
    return f"## Licences\n\nThis card grants no licence. Known licences of the parts:\n\n{lines}"


def _start(rows: Sequence[Row]) -> str | None:
    """The weights that training started from: a hub name, `package:NAME`, or the name of a local file or folder."""
    for row in rows:
        model = json.loads(row["config"]).get("model")
        if isinstance(model, dict) and model.get("kind") == "pretrained":
            path = str(model["path"])
            local = any(source["path"] == path for source in row["sources"])
            return f"./{public_name(path)}" if local and not path.startswith("package:") else path.partition("@")[0]
        if row["stage"] == "import" and json.loads(row["config"]).get("holds") == "policy":
            files = [public_name(source["path"]) for source in row["sources"]]
            return f"./{files[0]}" if files else str(model).partition("@")[0]
    return None


def _problem_sets(config: Mapping[str, Any]) -> set[str]:
    """Names of the sets in a `problems` artifact."""
    source = config.get("problems", {}).get("source", {})
    if source.get("kind") != "files":
        return set()
    entries = [*source.get("train", []), *source.get("test", [])]
    named = [(entry.partition("=")[0], "=" in entry) for entry in entries]
    return {name if equals and not {"/", "."} & set(name) else str(source.get("dataset", "")) for name, equals in named}


def questions_of(config: Mapping[str, Any]) -> str:
    """Description of the held-out questions of a `problems` artifact with this config."""
    source = config.get("problems", {}).get("source", {})
    if source.get("kind") == "generated":
        return "generated word problems, held out"
    return ", ".join(public_name(entry.partition("=")[2] or entry) for entry in source.get("test", [])) or "held-out questions"
