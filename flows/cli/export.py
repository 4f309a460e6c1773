"""`mathquarry export` and `mathquarry export-corpus`: write artifacts as self-contained folders, ready for the hub."""

from __future__ import annotations

import argparse
import json
import shlex
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.hub import is_hub_name, push_folder
from mathquarry.data.files import read_json
from mathquarry.data.solutions.prompts import PromptStyle
from mathquarry.flows.cli.named_model import checkpoint, find_model

if TYPE_CHECKING:
    from mathquarry.data.export.model_card import CardFacts


def export_policy(options: argparse.Namespace) -> None:
    """Export a policy, optionally push it, and print how to use it."""
    _check_push(options.push)
    if options.max_tokens < 1:
        raise MathQuarryError(f"--max-tokens is {options.max_tokens}; it must be at least 1.")
    model = find_model(options.policy, options.store)
    from mathquarry.data.export.model_card import model_card
    from mathquarry.models.export.folder import export_policy as write
    from mathquarry.models.policy.checkpoint import load_tokenizer, read_prompt_style

    with checkpoint(model) as folder:
        title = options.push.partition("/")[2] if options.push else options.folder.resolve().name
        style = read_prompt_style(folder, load_tokenizer(folder))
        card = model_card(_facts(title, style, model.key, options.store, not options.merge))
        write(folder, options.folder, card, options.max_tokens, options.dtype, options.merge)
    print(options.folder.resolve())
    print(f"serve it:  {serve_command(options.folder)}")
    print(f'ask it:    mathquarry sample {shlex.quote(str(options.folder))} "What is 12 * 12 - 44?"')
    if options.push:
        print(push_folder(options.folder, options.push, "model", not options.public))


def export_corpus(options: argparse.Namespace) -> None:
    """Export a corpus, optionally push it, and print how to open it."""
    from mathquarry.data.export.corpus import export_corpus as write
    from mathquarry.data.ledger.ledger import Ledger
    from mathquarry.data.store.store import Store

    _check_push(options.push)
    ledger = Ledger(Store(options.store))
    row = ledger.resolve(options.corpus)
    if row["stage"] != "mine":
        raise MathQuarryError(f"{options.corpus} is an artifact of stage {row['stage']}; choose one of stage mine.")
    title = options.push.partition("/")[2] if options.push else options.folder.name
    artifact = Store(options.store).get("mine", row["key"])
    write(artifact.path, title, ledger.lineage(row["key"]), options.folder)
    print(options.folder.resolve())
    print(f'open it:   datasets.load_dataset({json.dumps(str(options.folder))}, split="train")')
    if options.push:
        print(push_folder(options.folder, options.push, "dataset", not options.public))


def serve_command(folder: Path) -> str:
    """Return the command that serves an exported folder with vLLM. Separate adapters get the folder's name, their model `base`."""
    name = shlex.quote(folder.resolve().name)
    adapters = folder / "adapter_config.json"
    if not adapters.exists():
        return f"vllm serve {shlex.quote(str(folder))} --served-model-name {name}"
    largest = max(8, 1 << (read_json(adapters)["r"] - 1).bit_length())  # vLLM takes powers of two, from 8 on
    options = f"--served-model-name base --enable-lora --max-lora-rank {largest} --lora-modules"
    return f"vllm serve {shlex.quote(str(folder / 'base'))} {options} {shlex.quote(f'{folder.resolve().name}={folder}')}"


def _check_push(name: str | None) -> None:
    if name is not None and (not is_hub_name(name) or "@" in name):
        raise MathQuarryError(f"--push {name}: write OWNER/NAME, with letters, digits, - _ and . only.")


def _facts(title: str, style: PromptStyle, key: str | None, store_url: str, adapters: bool) -> CardFacts:
    """Return what the ledger knows about an artifact; for an external model, nothing."""
    from mathquarry.data.export.model_card import CardFacts, questions_of
    from mathquarry.data.ledger.ledger import Ledger
    from mathquarry.data.store.store import Store

    version = metadata.version("mathquarry")
    if key is None:
        return CardFacts(title, style, [], [], {}, version, adapters)
    ledger = Ledger(Store(store_url))
    scores = ledger.query(
        "select a.*, p.input as problems from artifacts a join inputs i using (key) join inputs p using (key) "
        "where a.stage = 'evaluate' and i.role = 'policy' and i.input = ? and p.role = 'problems' order by a.created",
        [key],
    )
    asked = [row["problems"] for row in scores]
    rows = ledger.query("select key, config from artifacts where key in (select unnest(?::varchar[]))", [asked])
    configs = {row["key"]: json.loads(row["config"]) for row in rows}
    questions = {row["key"]: questions_of(configs.get(row["problems"], {})) for row in scores}
    return CardFacts(title, style, ledger.lineage(key), scores, questions, version, adapters)
