"""A client process for the hub at HF_ENDPOINT: huggingface_hub reads the variable on import, so each test needs its own process.

A line of standard input is a command line as a JSON list, or `["problems", PLACE]`; a line of standard output is what came of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems import gsm8k
from mathquarry.flows.__main__ import main


def run(arguments: list[str]) -> int:
    if arguments[0] == "problems":
        print(json.dumps([problem.answer for problem in gsm8k.load(arguments[1])]))
        return 0
    if arguments[0] == "start":
        from mathquarry.models.policy.checkpoint import load_start
        from mathquarry.models.policy.config import PretrainedModel

        model, _, style = load_start(PretrainedModel(path=arguments[1]))
        print(json.dumps([style, float(next(model.parameters()).detach().sum())]))
        return 0
    if arguments[0] == "rows":
        import datasets

        print(json.dumps(datasets.load_dataset(arguments[1], split="train").num_rows))
        return 0
    return main(arguments)


def answer(line: str) -> dict[str, object]:
    asked = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if asked["token"]:
        os.environ["HF_TOKEN"] = asked["token"]
    out, err = Path(os.environ["CLIENT_OUT"]), io.StringIO()
    with out.open("w", encoding="utf-8") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(err):
        try:
            status = run(asked["arguments"])
        except MathQuarryError as error:
            status = 1
            print(f"mathquarry: {error}", file=sys.stderr)
    lines = [line for line in err.getvalue().splitlines() if line.startswith("mathquarry: ")]
    return {"status": status, "out": out.read_text(encoding="utf-8"), "error": "\n".join(lines), "all": err.getvalue()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(line)), flush=True)
