"""Tool-integrated rollouts: the model writes a program, the sandbox runs it, the model reads the output and continues (ToRA, 2309.17452).

Works with any `RolloutEngine`. An answer is one list of token ids. Tokens that the model wrote are kept as sampled and never tokenised
again; only the output of a program is encoded, once.

1. A segment stops at the token that closes a ```` ```python ```` block. If the closing fence ends inside a token, the token is kept whole,
   and the output's text starts after it.
2. The block runs in the answer's own session, so it sees the variables of earlier blocks.
3. The output's ids are appended as a ```` ```output ```` block, and the next segment starts.

Tokens that the model did not write have mask 0 and log-probability 0: the model reads them, but is not trained on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs.interface import Result, Sandbox, Session
from mathquarry.data.solutions.formats import first_program, output_block
from mathquarry.data.store.workspace import Bar
from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.rollout.config import ToolsConfig
from mathquarry.models.rollout.engine import Completion, RolloutEngine, Stop
from mathquarry.models.rollout.seeds import derive_seed

FENCE = "`"
OMISSION = "..."
THREADS = 32
"""Dialogues that can wait for the sandbox at the same time. The sandbox limits how many programs run at once."""


@dataclass(slots=True)
class Call:
    """One program that was run."""

    program: str
    result: Result


@dataclass(slots=True)
class ToolCompletion(Completion):
    """One sampled answer with tools.

    `mask[t]` is 1 if the model drew `tokens[t]`, and 0 if it belongs to a program's output; `logprobs[t]` is 0 there. `finished` is false
    for an answer that was truncated at a limit, of tokens or of calls.
    """

    mask: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    @property
    def written(self) -> list[int]:
        """The tokens that the model wrote."""
        return [token for token, own in zip(self.tokens, self.mask, strict=True) if own]


@dataclass(slots=True)
class _Dialogue:
    """An answer that is being generated."""

    place: int
    sample: int
    prompt: list[int]
    room: int
    completion: ToolCompletion
    session: Session | None = None

    def add(self, piece: Completion) -> None:
        self.completion.tokens += piece.tokens
        self.completion.logprobs += piece.logprobs
        self.completion.mask += [1] * len(piece.tokens)
        self.completion.finished = piece.finished

    def read(self, tokens: list[int]) -> None:
        """Append a program's output, as far as it fits."""
        tokens = tokens[: self.room - len(self.completion.tokens)]
        self.completion.tokens += tokens
        self.completion.logprobs += [0.0] * len(tokens)
        self.completion.mask += [0] * len(tokens)


class ToolRollouts:
    """Generates answers with tools for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, sandbox: Sandbox, config: ToolsConfig) -> None:
        """`sandbox` is used, but not closed."""
        self._tokenizer, self._sandbox, self._config = tokenizer, sandbox, config
        pieces = tokenizer.batch_decode([[token] for token in range(len(tokenizer))], clean_up_tokenization_spaces=False)
        closing = frozenset(token for token, piece in enumerate(pieces) if FENCE in piece)
        self._stop = Stop(closing, lambda tokens: first_program(self._text(tokens)) is not None)

    def generate(
        self,
        engine: RolloutEngine,
        prompts: list[list[int]],
        *,
        n: int,
        temperature: float,
        max_tokens: int,
        seeds: list[int],
        progress: Bar | None = None,
    ) -> list[list[ToolCompletion]]:
        """Return `n` answers for each prompt; see `RolloutEngine.generate`. `max_tokens` includes programs' outputs.

        Raises `MathQuarryError` like the engine, if the sandbox fails, or if `n` is larger than the number of sandbox sessions.
        """
        at_once = self._config.programs.sessions // n
        if at_once == 0:
            raise MathQuarryError(f"{n} answers per question need as many sessions. Raise tools.programs.sessions.")
        answers: list[list[ToolCompletion]] = []
        for start in range(0, len(prompts), at_once):
            batch = slice(start, start + at_once)
            answers += self._generate(engine, prompts[batch], n, temperature, max_tokens, seeds[batch])
            if progress is not None:
                progress.advance(n * len(prompts[batch]))
        return answers

    def _generate(
        self, engine: RolloutEngine, prompts: list[list[int]], n: int, temperature: float, max_tokens: int, seeds: list[int]
    ) -> list[list[ToolCompletion]]:
        """Generate answers to all prompts at once, segment by segment."""
        groups = engine.generate(prompts, n=n, temperature=temperature, max_tokens=max_tokens, seeds=seeds, stop=self._stop)
        dialogues = [
            _Dialogue(place, sample, prompt, _room(prompt, max_tokens, engine.limit), ToolCompletion([], [], False))
            for place, prompt in enumerate(prompts)
            for sample in range(n)
        ]
        pieces = [piece for group in groups for piece in group]
        talking = dialogues
        with ExitStack() as stack, ThreadPoolExecutor(THREADS) as pool:
            for turn in range(1, self._config.max_calls + 2):
                for dialogue, piece in zip(talking, pieces, strict=True):
                    dialogue.add(piece)
                # When all calls are used up, an answer that writes another program is truncated there.
                calling = [
                    dialogue for dialogue, piece in zip(talking, pieces, strict=True) if piece.stopped and turn <= self._config.max_calls
                ]
                for dialogue in calling:
                    if dialogue.session is None:
                        dialogue.session = stack.enter_context(self._sandbox.session())
                list(pool.map(self._call, calling, [piece for piece in pieces if piece.stopped]))
                talking = [dialogue for dialogue in calling if len(dialogue.completion.tokens) < dialogue.room]
                if not talking:
                    break
                pieces = [
                    piece
                    for (piece,) in engine.generate(
                        [dialogue.prompt + dialogue.completion.tokens for dialogue in talking],
                        n=1,
                        temperature=temperature,
                        max_tokens=[dialogue.room - len(dialogue.completion.tokens) for dialogue in talking],
                        seeds=[derive_seed(seeds[dialogue.place], dialogue.sample, turn) for dialogue in talking],
                        stop=self._stop,
                    )
                ]
        return [[dialogue.completion for dialogue in dialogues if dialogue.place == place] for place in range(len(prompts))]

    def _call(self, dialogue: _Dialogue, piece: Completion) -> None:
        """Run the program that `piece` ends with and append its output."""
        block = first_program(self._text(piece.tokens))
        assert block is not None, "a completion stops at the end of a program"
        assert dialogue.session is not None, "a session is opened before the first call"
        result = dialogue.session.run(block.program)
        dialogue.completion.calls.append(Call(block.program, result))
        # In training, the end of the line and the output are separate segments, so they are encoded separately here too.
        line_end = [] if block.rest.endswith("\n") else encode(self._tokenizer, "\n")
        dialogue.read(line_end + self._output_ids(result.text))

    def _output_ids(self, text: str) -> list[int]:
        """Encode a program's output. The middle of a long output is left out."""
        ids = encode(self._tokenizer, output_block(text))
        kept = len(text)
        while len(ids) > self._config.output_tokens and kept > 0:
            kept = min(kept * 3 // 4, kept * self._config.output_tokens // len(ids))
            shorter = f"{text[: kept - kept // 2]}\n{OMISSION}\n{text[len(text) - kept // 2 :]}".strip()
            ids = encode(self._tokenizer, output_block(shorter))
        return ids

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False))


def loss_mask(prompt: Sequence[int], completion: ToolCompletion) -> list[int]:
    """Return the mask of prompt and answer together: 1 on tokens that the model drew, 0 on the prompt and on programs' outputs."""
    return [0] * len(prompt) + completion.mask


def _room(prompt: list[int], max_tokens: int, limit: int | None) -> int:
    return max_tokens if limit is None else min(max_tokens, limit - len(prompt))
