"""Tool-integrated rollouts: the model writes a program, the sandbox runs it, the model reads the output and goes on (ToRA, 2309.17452).

Works on any `RolloutEngine`. An answer is a list of token ids from beginning to end: what the model wrote is kept as it was sampled and
never tokenised again, and only what a program printed is turned into ids, once.

1. A segment stops at the token that closes a ```` ```python ```` block. Where the closing fence ends inside a token, the token is kept
   whole, and the output's text begins where the token ends.
2. The block runs in the answer's own session, so it sees the variables of the blocks before.
3. The output's ids are appended in ```` ```output ```` form, and the next segment begins.

What the model did not write has mask 0 and log-probability 0: it is read, never learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from data.errors import MathQuarryError
from data.programs.sandbox import Result, Sandbox, Session
from data.solutions.formats import first_program, output_block
from data.workspace import Bar
from models.config import ToolsConfig
from models.rollout.engine import Output, RolloutEngine, Stop
from models.seeds import derive_seed
from models.tokenizer import encode

FENCE = "`"
OMISSION = "..."
THREADS = 32
"""Dialogues that wait for the sandbox at the same time; it has its own limit on how many programs run."""


@dataclass(slots=True)
class Call:
    """One program that was run."""

    program: str
    result: Result


@dataclass(slots=True)
class ToolOutput(Output):
    """One sampled answer with tools.

    `mask[t]` is 1 where the model drew `tokens[t]`, and 0 where it is a program's output; `logprobs[t]` is 0 there. `finished` as for any
    output: an answer that was cut at a limit, of tokens or of calls, is not.
    """

    mask: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    @property
    def written(self) -> list[int]:
        """The tokens that the model wrote."""
        return [token for token, own in zip(self.tokens, self.mask, strict=True) if own]


@dataclass(slots=True)
class _Dialogue:
    """An answer in the making."""

    place: int
    sample: int
    prompt: list[int]
    room: int
    output: ToolOutput
    session: Session | None = None

    def add(self, piece: Output) -> None:
        self.output.tokens += piece.tokens
        self.output.logprobs += piece.logprobs
        self.output.mask += [1] * len(piece.tokens)
        self.output.finished = piece.finished

    def read(self, tokens: list[int]) -> None:
        """Append what a program printed, as far as there is room."""
        tokens = tokens[: self.room - len(self.output.tokens)]
        self.output.tokens += tokens
        self.output.logprobs += [0.0] * len(tokens)
        self.output.mask += [0] * len(tokens)


class ToolRollouts:
    """Generates answers with tools for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, sandbox: Sandbox, config: ToolsConfig) -> None:
        """`sandbox` is used, not closed."""
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
    ) -> list[list[ToolOutput]]:
        """`n` answers for each prompt; see `RolloutEngine.generate`. `max_tokens` counts programs' outputs too.

        Raises `MathQuarryError` as the engine does, when the sandbox fails, and when `n` is more than it has dialogues.
        """
        at_once = self._config.programs.sessions // n
        if at_once == 0:
            raise MathQuarryError(f"{n} answers a question need as many dialogues; raise tools.programs.sessions.")
        answers: list[list[ToolOutput]] = []
        for start in range(0, len(prompts), at_once):
            batch = slice(start, start + at_once)
            answers += self._generate(engine, prompts[batch], n, temperature, max_tokens, seeds[batch])
            if progress is not None:
                progress.advance(n * len(prompts[batch]))
        return answers

    def _generate(
        self, engine: RolloutEngine, prompts: list[list[int]], n: int, temperature: float, max_tokens: int, seeds: list[int]
    ) -> list[list[ToolOutput]]:
        """Answers of all prompts at once, segment by segment."""
        groups = engine.generate(prompts, n=n, temperature=temperature, max_tokens=max_tokens, seeds=seeds, stop=self._stop)
        dialogues = [
            _Dialogue(place, sample, prompt, _room(prompt, max_tokens, engine.limit), ToolOutput([], [], False))
            for place, prompt in enumerate(prompts)
            for sample in range(n)
        ]
        pieces = [piece for group in groups for piece in group]
        talking = dialogues
        with ExitStack() as stack, ThreadPoolExecutor(THREADS) as pool:
            for turn in range(1, self._config.max_calls + 2):
                for dialogue, piece in zip(talking, pieces, strict=True):
                    dialogue.add(piece)
                # With all calls used up, an answer that stops at one more program is cut there.
                calling = [
                    dialogue for dialogue, piece in zip(talking, pieces, strict=True) if piece.stopped and turn <= self._config.max_calls
                ]
                for dialogue in calling:
                    if dialogue.session is None:
                        dialogue.session = stack.enter_context(self._sandbox.session())
                list(pool.map(self._call, calling, [piece for piece in pieces if piece.stopped]))
                talking = [dialogue for dialogue in calling if len(dialogue.output.tokens) < dialogue.room]
                if not talking:
                    break
                pieces = [
                    piece
                    for (piece,) in engine.generate(
                        [dialogue.prompt + dialogue.output.tokens for dialogue in talking],
                        n=1,
                        temperature=temperature,
                        max_tokens=[dialogue.room - len(dialogue.output.tokens) for dialogue in talking],
                        seeds=[derive_seed(seeds[dialogue.place], dialogue.sample, turn) for dialogue in talking],
                        stop=self._stop,
                    )
                ]
        return [[dialogue.output for dialogue in dialogues if dialogue.place == place] for place in range(len(prompts))]

    def _call(self, dialogue: _Dialogue, piece: Output) -> None:
        """Run the program that `piece` ends with and append its output."""
        block = first_program(self._text(piece.tokens))
        assert block is not None, "an output stops where a program ends"
        assert dialogue.session is not None, "a session is opened before its first call"
        result = dialogue.session.run(block.program)
        dialogue.output.calls.append(Call(block.program, result))
        # Training writes the line's end and the output apart, so they are encoded apart here.
        line_end = [] if block.rest.endswith("\n") else encode(self._tokenizer, "\n")
        dialogue.read(line_end + self._output_ids(result.text))

    def _output_ids(self, text: str) -> list[int]:
        """Ids of a program's output, its middle left out where it is too long."""
        ids = encode(self._tokenizer, output_block(text))
        kept = len(text)
        while len(ids) > self._config.output_tokens and kept > 0:
            kept = min(kept * 3 // 4, kept * self._config.output_tokens // len(ids))
            shorter = f"{text[: kept - kept // 2]}\n{OMISSION}\n{text[len(text) - kept // 2 :]}".strip()
            ids = encode(self._tokenizer, output_block(shorter))
        return ids

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False))


def loss_mask(prompt: Sequence[int], output: ToolOutput) -> list[int]:
    """For prompt and answer together: 1 on tokens that the model drew, 0 on the prompt and on programs' outputs."""
    return [0] * len(prompt) + output.mask


def _room(prompt: list[int], max_tokens: int, limit: int | None) -> int:
    return max_tokens if limit is None else min(max_tokens, limit - len(prompt))
