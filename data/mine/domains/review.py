"""A person's decisions between mining rounds: requested when a round has its domain table, and kept beside the store's artifacts.

A review has a name, which is part of the corpus's identity, and one immutable decision per round. So the same name always means the same
decisions, and a corpus mined under it can be found again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mathquarry.data.config import Config
from mathquarry.data.crawl.annotations import Annotations, Verdict
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json, write_json
from mathquarry.data.mine.domains.table import Domain, accept_unattended, wilson_interval


class Decision(Config):
    """A person's decisions after a round."""

    rest: Literal["threshold", "reject"] = Field("threshold", description="Other paths: `path_share` decides, or they are rejected.")
    path: list[Verdict] = Field([], description="Reviewed paths. Verdicts of earlier rounds are kept.")


@dataclass(eq=False)
class ReviewNeeded(Exception):
    """Mining cannot continue until a person has reviewed the domain table of a round."""

    round: int
    table: list[dict[str, Any]]
    """Rows per mathematical domain: host, pages, collected, share with its 95 % interval, paths with shares, what the threshold accepts."""

    def __str__(self) -> str:
        return f"the domain table of round {self.round} is waiting for a review"


class Decisions:
    """The decisions of a review, by round, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[int, Decision]:
        """Decisions so far. Raises `MathQuarryError` naming a file that is damaged."""
        found = {}
        for path in sorted(self.folder.glob("round-*.json")):
            try:
                found[int(path.stem.removeprefix("round-"))] = Decision.model_validate(read_json(path))
            except ValidationError as error:
                raise MathQuarryError(f"{path} is not a decision: {error.errors()[0]['msg']}.") from None
        return found

    def write(self, number: int, decision: Decision) -> None:
        """Keep the decision after round `number`. A later one does not replace it: mining may have continued from it."""
        path = self.folder / f"round-{number:02d}.json"
        if not path.exists():
            write_json(path, decision.model_dump(mode="json"))


def all_verdicts(decisions: Mapping[int, Decision]) -> tuple[Annotations, bool]:
    """Return the verdicts of all rounds (later ones win), and whether the threshold decides about other paths, as decided last."""
    rounds = [decisions[number] for number in sorted(decisions)]
    by_path = {(verdict.host, verdict.stem): verdict for decision in rounds for verdict in decision.path}
    return Annotations(list(by_path.values())), not rounds or rounds[-1].rest == "threshold"


def table_rows(table: list[Domain], path_share: float) -> list[dict[str, Any]]:
    """The mathematical domains as rows of plain values, most collected pages first."""
    rows = []
    for domain in table:
        if domain.mathematical:
            low, high = wilson_interval(domain.collected, domain.pages)
            rows.append(
                {
                    "host": domain.host,
                    "pages": domain.pages,
                    "collected": domain.collected,
                    "share": f"{domain.share:.0%} ({low:.0%} to {high:.0%})",
                    "paths": ", ".join(f"{prefix.prefix} {prefix.share:.0%} of {prefix.pages}" for prefix in domain.prefixes[:6]),
                    "threshold accepts": ", ".join(accept_unattended(domain, path_share)) or "nothing",
                    "titles": "; ".join(sample.title for sample in domain.samples if sample.title and sample.collected),
                }
            )
    return rows
