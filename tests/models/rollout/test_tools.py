"""Rollouts with tools: programs run where they end, their output is read but not trained on, and no token is encoded twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.interface import Sandbox
from mathquarry.data.programs.sandbox import make_sandbox
from mathquarry.data.solutions.formats import CodeBlock, first_program
from mathquarry.data.store.workspace import Progress
from mathquarry.models.policy.tokenizer import encode, train_tokenizer
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig
from mathquarry.models.rollout.engine import Completion, RolloutEngine, Stop
from mathquarry.models.rollout.hf import TransformersEngine
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.tools import ToolCompletion, ToolRollouts, loss_mask

ARITHMETIC = ProgramsConfig(sandbox="arithmetic")
PROMPT = "What is 6*7, and 2 more, and half of that?\n"
DIALOGUE = [
    "First `a`:\n```python\na=6*7\nprint(a)\n```\n",
    "```output\n42\n```\n",
    "Then two more.\n```python\nb=a+2\n```\n",
    "```output\n\n```\n",
    "Half.\n```python\nc=b/2\nprint(c)\n```\n",
    "```output\n22\n```\n",
    "So it is \\boxed{22}.",
]
"""The trained text: the model's own parts and, between them, the output of its programs."""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([PROMPT, *DIALOGUE] * 4, 300)


@pytest.fixture(scope="module")
def taught(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A tiny model that has memorised the dialogue."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    ids = torch.tensor([whole_dialogue(tokenizer)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.003:
            break
    assert loss.item() < 0.05
    return model.eval()


def whole_dialogue(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """As training writes it: each part encoded on its own, the end token last."""
    return [token for part in [PROMPT, *DIALOGUE] for token in encode(tokenizer, part)] + [1]


def answer(engine: RolloutEngine, tokenizer: PreTrainedTokenizerFast, sandbox: Sandbox, **tools: int) -> ToolCompletion:
    rollouts = ToolRollouts(tokenizer, sandbox, ToolsConfig(programs=ARITHMETIC, **tools))
    ((completion,),) = rollouts.generate(engine, [encode(tokenizer, PROMPT)], n=1, temperature=0.0, max_tokens=200, seeds=[0])
    return completion


def parts(completion: ToolCompletion, tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, str]]:
    """Runs of equal mask values with their text."""
    found: list[tuple[int, list[int]]] = []
    for token, own in zip(completion.tokens, completion.mask, strict=True):
        if not found or found[-1][0] != own:
            found.append((own, []))
        found[-1][1].append(token)
    return [(own, tokenizer.decode(tokens)) for own, tokens in found]


def test_a_dialogue_with_three_calls_keeps_its_variables_and_has_the_ids_of_training(
    taught: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with make_sandbox(ARITHMETIC) as sandbox:
        completion = answer(TransformersEngine(RolloutConfig(), taught), tokenizer, sandbox)
    assert completion.finished
    assert [(call.program, call.result.stdout) for call in completion.calls] == [
        ("a=6*7\nprint(a)\n", "42"),
        ("b=a+2\n", ""),
        ("c=b/2\nprint(c)\n", "22"),
    ]
    assert encode(tokenizer, PROMPT) + completion.tokens == whole_dialogue(tokenizer)
    assert [own for own, _ in parts(completion, tokenizer)] == [1, 0, 1, 0, 1, 0, 1]
    assert (
        "".join(text for own, text in parts(completion, tokenizer) if not own)
        == "\n```output\n42\n```\n\n```output\n\n```\n\n```output\n22\n```\n"
    )


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_the_same_dialogue_in_python_itself(taught: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    from tests.data.programs.conftest import start

    with start("local") as sandbox:
        completion = answer(TransformersEngine(RolloutConfig(), taught), tokenizer, sandbox)
    assert [call.result.stdout for call in completion.calls] == ["42\n", "", "22.0\n"]


def test_the_gradient_at_prompt_and_tool_tokens_is_exactly_zero(taught: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = encode(tokenizer, PROMPT)
    with make_sandbox(ARITHMETIC) as sandbox:
        completion = answer(TransformersEngine(RolloutConfig(), taught), tokenizer, sandbox)
    mask_T = torch.tensor(loss_mask(prompt, completion), dtype=torch.float)
    ids_1T = torch.tensor([prompt + completion.tokens])
    logits = taught(ids_1T).logits
    logits.retain_grad()
    logprobs_T = torch.log_softmax(logits[0, :-1], dim=-1).gather(1, ids_1T[0, 1:, None])[:, 0]
    (-(logprobs_T * mask_T[1:]).sum()).backward()
    gradient_T = logits.grad[0, :-1].abs().amax(dim=-1)
    assert (gradient_T[mask_T[1:] == 0] == 0).all()
    assert (gradient_T[mask_T[1:] == 1] > 0).all()
    assert int(mask_T.sum()) == len(completion.written)
    assert [logprob for logprob, own in zip(completion.logprobs, completion.mask, strict=True) if not own] == [0.0] * completion.mask.count(
        0
    )


def test_an_answer_that_wants_more_calls_than_allowed_is_cut(taught: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    with make_sandbox(ARITHMETIC) as sandbox:
        completion = answer(TransformersEngine(RolloutConfig(), taught), tokenizer, sandbox, max_calls=2)
    assert len(completion.calls) == 2
    assert not completion.finished
    assert tokenizer.decode(completion.tokens).endswith("c=b/2\nprint(c)\n```")


@pytest.mark.parametrize("max_tokens", [10, 40, 47, 60, 75])
def test_prompt_outputs_and_all_stay_within_max_tokens(
    max_tokens: int, taught: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with make_sandbox(ARITHMETIC) as sandbox:
        rollouts = ToolRollouts(tokenizer, sandbox, ToolsConfig(programs=ARITHMETIC))
        engine = TransformersEngine(RolloutConfig(), taught)
        prompt = encode(tokenizer, PROMPT)
        ((completion,),) = rollouts.generate(engine, [prompt], n=1, temperature=0.0, max_tokens=max_tokens, seeds=[0])
    assert len(completion.tokens) == len(completion.mask) == len(completion.logprobs) == max_tokens
    assert not completion.finished
    assert prompt + completion.tokens == whole_dialogue(tokenizer)[: len(prompt) + max_tokens]


def test_samples_do_not_depend_on_the_batch_and_differ_from_each_other(
    taught: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = [encode(tokenizer, PROMPT), encode(tokenizer, "Half.\n")]
    options = {"n": 6, "temperature": 1.5, "max_tokens": 60}
    with make_sandbox(ARITHMETIC) as sandbox, Progress().track("rollout", 12) as bar:
        engine = TransformersEngine(RolloutConfig(), taught)
        both = ToolRollouts(tokenizer, sandbox, ToolsConfig(programs=ARITHMETIC)).generate(
            engine, prompts, seeds=[1, 2], progress=bar, **options
        )
        narrow = ToolsConfig(programs=ARITHMETIC.model_copy(update={"sessions": 6}))
        apart = ToolRollouts(tokenizer, sandbox, narrow).generate(engine, prompts, seeds=[1, 2], **options)
        assert bar.done == 12
    assert [completion.tokens for group in both for completion in group] == [completion.tokens for group in apart for completion in group]
    assert len({tuple(completion.tokens) for group in both for completion in group}) > 6
    assert any(completion.calls for group in both for completion in group)


class Scripted:
    """An engine that writes a given text, and stops as a real one does."""

    limit = None

    def __init__(self, *segments: list[int]) -> None:
        self.segments = list(segments)
        self.prompts: list[list[int]] = []

    def generate(self, prompts: list[list[int]], *, stop: Stop, **_: object) -> list[list[Completion]]:
        self.prompts += prompts
        tokens = self.segments.pop(0)
        for end in range(1, len(tokens) + 1):
            if tokens[end - 1] in stop.tokens and stop.holds(tokens[:end]):
                return [[Completion(tokens[:end], [-1.0] * end, False, True)]]
        return [[Completion(tokens, [-1.0] * len(tokens), True)]]


def scripted(tokenizer: PreTrainedTokenizerFast, engine: Scripted, **tools: int) -> ToolCompletion:
    with make_sandbox(ARITHMETIC) as sandbox:
        rollouts = ToolRollouts(tokenizer, sandbox, ToolsConfig(programs=ARITHMETIC, **tools))
        ((completion,),) = rollouts.generate(engine, [[5]], n=1, temperature=0.0, max_tokens=5000, seeds=[0])
    return completion


@pytest.mark.parametrize(("fence", "lead"), [("```", "\n"), ("```\n", ""), ("```\n\n", ""), ("``` ", "\n")])
def test_a_fence_that_ends_inside_a_token_keeps_the_token_and_the_output_begins_on_a_new_line(fence: str, lead: str) -> None:
    tokenizer = train_tokenizer([PROMPT, *DIALOGUE] * 4, 300)
    tokenizer.add_tokens([fence])
    closing = len(tokenizer) - 1 if fence != "```" else encode(tokenizer, "```")[0]
    program = encode(tokenizer, "```python\nx=1\nprint(x)\n")
    engine = Scripted([*program, closing, 7, 7], [1])
    completion = scripted(tokenizer, engine)
    written = len(program) + 1
    assert completion.tokens[:written] == [*program, closing]
    printed = encode(tokenizer, lead) + encode(tokenizer, "```output\n1\n```\n")
    assert completion.tokens[written:-1] == printed
    assert completion.mask == [1] * written + [0] * len(printed) + [1]
    assert engine.prompts[1] == [5, *completion.tokens[:-1]]


def test_inline_code_other_fences_and_unclosed_blocks_do_not_stop_an_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "`a` and ``b``, ```c```\n```text\nhello\n```\n```python\nx=1\ny=```"
    completion = scripted(tokenizer, Scripted([*encode(tokenizer, text), 1]))
    assert completion.finished
    assert completion.calls == []


def test_an_error_is_shown_and_the_answer_goes_on(tokenizer: PreTrainedTokenizerFast) -> None:
    broken, mended = encode(tokenizer, "```python\nprint(zz)\n```"), encode(tokenizer, "```python\nzz=3\nprint(zz)\n```")
    completion = scripted(tokenizer, Scripted(broken, mended, [1]))
    assert [call.result.text for call in completion.calls] == ["ProgramError: line 1: `zz` has no value", "3"]
    assert "`zz` has no value\n```\n" in tokenizer.decode(completion.tokens)


def test_a_long_output_loses_its_middle(tokenizer: PreTrainedTokenizerFast) -> None:
    printing = "\n".join(f"v{number}={number}{number}\nprint(v{number})" for number in range(100, 160))
    completion = scripted(tokenizer, Scripted(encode(tokenizer, f"```python\n{printing}\n```"), [1]), output_tokens=60)
    assert 40 < completion.mask.count(0) <= 61  # with the line's end
    shown = parts(completion, tokenizer)[1][1]
    assert shown.startswith("\n```output\n100100\n")
    assert "\n...\n" in shown
    assert shown.endswith("159159\n```\n")


def test_more_answers_than_dialogues_is_an_error_that_names_the_field(taught: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    few = ToolsConfig(programs=ARITHMETIC.model_copy(update={"sessions": 4}))
    with make_sandbox(ARITHMETIC) as sandbox, pytest.raises(MathQuarryError, match=r"8 answers.*tools\.programs\.sessions"):
        ToolRollouts(tokenizer, sandbox, few).generate(
            TransformersEngine(RolloutConfig(), taught), [[5]], n=8, temperature=1.0, max_tokens=9, seeds=[0]
        )


def test_programs_are_found_where_their_fences_are_whole() -> None:
    assert first_program("so\n```python\nx = 1\n```\nand") == CodeBlock("x = 1\n", "\nand")
    assert first_program("```py\nprint('```')\n```") == CodeBlock("print('```')\n", "")
    assert first_program("  ```python\n  x = 1\n  ```") == CodeBlock("x = 1\n", "")
    assert first_program("```python\n```") == CodeBlock("", "")
    assert first_program("```python\nx = 1\n``") is None
    assert first_program("```output\n1\n```\n") is None


def test_unknown_tool_fields_fail() -> None:
    with pytest.raises(ValidationError):
        ToolsConfig(calls=3)  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def served(taught: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutEngine]:
    pytest.importorskip("vllm")
    folder: Path = tmp_path_factory.mktemp("taught")
    taught.save_pretrained(folder)
    engine = make_engine(RolloutConfig(engine="vllm", kv_cache_gib=0.1, batch_completions=64), folder)
    yield engine
    engine.close()


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_and_transformers_give_the_same_tokens_greedily(
    served: RolloutEngine, taught: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = [encode(tokenizer, text) for text in (PROMPT, "Half.\n", "First `a`:\n", "What is 6*7?\n")]
    with make_sandbox(ARITHMETIC) as sandbox:
        rollouts = ToolRollouts(tokenizer, sandbox, ToolsConfig(programs=ARITHMETIC))
        options = {"n": 2, "temperature": 0.0, "max_tokens": 150, "seeds": [0] * 4}
        ours = rollouts.generate(served, prompts, **options)
        theirs = rollouts.generate(TransformersEngine(RolloutConfig(), taught), prompts, **options)
    for one, other in zip([o for group in ours for o in group], [o for group in theirs for o in group], strict=True):
        assert (one.tokens, one.mask, one.finished, one.calls) == (other.tokens, other.mask, other.finished, other.calls)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert len(ours[0][0].calls) == 3


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_samples_with_tools_are_within_limits_and_differ(served: RolloutEngine, tokenizer: PreTrainedTokenizerFast) -> None:
    with make_sandbox(ARITHMETIC) as sandbox:
        rollouts = ToolRollouts(tokenizer, sandbox, ToolsConfig(programs=ARITHMETIC))
        (group,) = rollouts.generate(served, [encode(tokenizer, PROMPT)], n=12, temperature=1.3, max_tokens=70, seeds=[3])
    assert len({tuple(completion.tokens) for completion in group}) > 6
    for completion in group:
        assert len(completion.tokens) == len(completion.mask) == len(completion.logprobs) <= 70
        assert completion.finished == (completion.tokens[-1] == 1)
        assert all(
            (logprob == 0.0) if not own else logprob <= 0.0 for logprob, own in zip(completion.logprobs, completion.mask, strict=True)
        )
