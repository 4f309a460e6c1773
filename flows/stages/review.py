"""Asks a person between mining rounds, with a form in the Prefect UI. Meanwhile the run is suspended and its process ends."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Any, Literal

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput, read_flow_run_input
from prefect.input.run_input import keyset_from_paused_state
from prefect.states import Suspended
from pydantic import ConfigDict, Field

from mathquarry.data.crawl.annotations import Verdict, parse_verdicts
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.domains.review import Decision, ReviewNeeded
from mathquarry.tasks.ui import ui_address

COLUMNS = ("host", "share", "threshold accepts")
"""Columns of the short table; the one with samples has all."""
CELL = 60
"""Longest text in a cell of the short table."""
DAYS = 30
"""How long a run waits for its review before it fails; Retry asks again."""


class DomainReview(RunInput):
    """The form. Its defaults take what the threshold proposes. Resuming without the form is refused, since nobody would have decided."""

    model_config = ConfigDict(json_schema_extra={"required": ["decide"]})

    decide: Literal["take the threshold", "review by hand"] = Field(
        "take the threshold",
        title="Decision",
        description="Take the paths that the threshold accepts, or review them: then the lists below apply as well.",
    )
    accept: list[str] = Field([], title="Accept", description="Host and path: `mathforum.example/questions`.")
    reject: list[str] = Field([], title="Reject", description="Host and path.")
    toml: str = Field("", title="TOML", description="Or paste [[path]] tables with host, prefix and verdict.")
    others: Literal["as the threshold says", "reject"] = Field(
        "as the threshold says", title="Other paths", description="What to do with paths that are neither in the lists nor in the TOML."
    )
    annotator: str = Field("", title="Your name", description="Stored with the verdicts.")

    def decision(self) -> Decision:
        """The decision. Raises `MathQuarryError` saying what is wrong in the form."""
        if self.decide == "take the threshold":
            return Decision()
        verdicts = [self._verdict(line, "accept") for line in self.accept] + [self._verdict(line, "reject") for line in self.reject]
        if self.toml.strip():
            verdicts += parse_verdicts(self.toml, "the pasted text")
        return Decision(rest="threshold" if self.others == "as the threshold says" else "reject", path=verdicts)

    def _verdict(self, line: str, verdict: Literal["accept", "reject"]) -> Verdict:
        host, slash, path = line.strip().removeprefix("https://").removeprefix("http://").partition("/")
        if not host or " " in host:
            raise MathQuarryError(f"{line!r} is not a host with a path, as in mathforum.example/questions")
        return Verdict(host=host, prefix=slash + path or "/", verdict=verdict, annotator=self.annotator)


def ask(question: ReviewNeeded) -> Decision:
    """Show the domain table, wait for the form, and return the decision. If the form is invalid, ask again and say why."""
    complaint = ""
    for attempt in range(1, 100):
        key = f"round-{question.round}-{attempt}"
        answer = _answer(key)
        if answer is None and _asked(key):
            # The run crashed or was canceled while it waited, and was retried. Ask unanswered questions again.
            continue
        if answer is None:
            form = DomainReview.with_initial_data(description=complaint + _note(question, _publish(question)))
            answer = suspend_flow_run(wait_for_input=form, timeout=DAYS * 86_400, key=key)
        try:
            return answer.decision()
        except MathQuarryError as error:
            complaint = f"**The last answer was not understood: {error}**\n\n"
    raise MathQuarryError(f"the domains of round {question.round} were asked a hundred times without a valid answer. Start a new run.")


def _answer(key: str) -> DomainReview | None:
    """A person's answers in the form shown under `key`; None if there are none. Prefect itself would return the defaults."""
    stored = read_flow_run_input(keyset_from_paused_state(Suspended(pause_key=key))["response"])
    return None if stored is None else DomainReview.model_validate(stored)


def _asked(key: str) -> bool:
    """Whether this run was suspended under `key` before. The server suspends only once per key."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return key in (context.flow_run.empirical_policy.pause_keys or ())


def _publish(question: ReviewNeeded) -> str:
    """Show the domains on the run's page; returns links to them."""
    about = f"Domains after mining round {question.round}"
    samples = create_table_artifact(
        question.table or [{"host": "no mathematical domain was found"}],
        key=f"domains-round-{question.round}",
        description=f"{about}, with samples",
    )
    full = ui_address("artifacts/artifact", samples)
    lines = [f"## Waiting for you: {about[0].lower()}{about[1:]}", ""]
    lines += ["1. Look through the domains below" + (f", or [with samples of their pages]({full})." if full else "."), ""]
    lines += ["2. Open the menu at the top right of this run's page and choose **Resume**.", ""]
    lines += ["3. Take the threshold's choice, or name paths to accept and to reject. The run then continues.", ""]
    lines += _markdown(COLUMNS, question.table)
    page = create_markdown_artifact(
        "\n".join(lines), key=f"review-round-{question.round}", description=f"{about}: what to do, and where Resume is"
    )
    narrow = ui_address("artifacts/artifact", page)
    # A run's page opens with the log.
    get_run_logger().warning("This run waits for you: choose Resume in its menu. The domains: %s", narrow or "among its artifacts")
    return f"[The table]({narrow}) · [the table with samples]({full})" if full else "The table is among this run's artifacts."


def _note(question: ReviewNeeded, links: str) -> str:
    return f"### Domains after mining round {question.round}\n\n{links}\n\nLeft unchanged, this takes what the threshold proposes.\n"


def _markdown(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[str]:
    def cells(values: Sequence[Any]) -> str:
        return "| " + " | ".join(shorten(str(value), CELL).replace("|", "\\|") for value in values) + " |"

    return [cells(columns), "|---" * len(columns) + "|", *(cells([row[column] for column in columns]) for row in rows)]
