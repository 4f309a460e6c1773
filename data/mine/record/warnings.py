"""Warnings about a round, as sentences for its record, the log and the report."""

from __future__ import annotations

from mathquarry.data.mine.classify.recall import Recall
from mathquarry.data.mine.classify.seed import Seed
from mathquarry.data.mine.classify.separation import Separation
from mathquarry.data.mine.config import MineConfig

# Equal scores at the threshold cause a warning from this many pages, and from this share of the collected pages.
_HEAP_PAGES, _HEAP_SHARE = 10, 0.01


def seed_warnings(seed: Seed, config: MineConfig) -> list[str]:
    """Warn of fewer negatives than the recipe asks for."""
    if seed.limit is None:
        return []
    wanted = config.seed_pages
    positives, negatives = seed.counts
    why = {
        "most_of_crawl": f"at most {wanted.most_of_crawl:g} of the crawl's unique pages may be negatives",
        "negatives_per_positive": f"{positives:,} positives allow at most {wanted.negatives_per_positive:g} negatives each",
    }
    return [f"{negatives:,} negatives instead of {wanted.negatives:,}: {why[seed.limit]} (seed_pages.{seed.limit})."]


def separation_warnings(found: Separation, recalled: Recall | None, config: MineConfig) -> list[str]:
    """Warn of a classifier that was not measured, and of a first pass that does not separate: nearly everything passes it."""
    sentences = []
    if found.auc is None:
        sentences.append(
            f"the classifier was not measured: the seed has too few pages to hold {config.separation.least_pages} of each class out "
            "(separation.least_pages). Look at the pages of the corpus."
        )
    if recalled and recalled.separation.auc is not None and recalled.separation.auc < config.separation.least_auc:
        sentences.append(
            f"the first pass does not separate (AUC {recalled.separation.auc:.3f} on held-out pages): "
            f"it let {recalled.passed:,} of {recalled.captures:,} pages through."
        )
    return sentences


def threshold_warnings(threshold: float, pages: int, left: int, collected: int) -> list[str]:
    """Warn of a threshold that splits a group of `pages` equal scores, `left` of which were not collected."""
    if not left or pages < max(_HEAP_PAGES, _HEAP_SHARE * collected):
        return []
    return [
        f"the threshold splits a group of equal scores: {pages:,} pages have the score {threshold:.6g}, {pages - left:,} of them were "
        f"collected and {left:,} not, by the hash of their addresses. Change token_budgets, or train the classifier longer."
    ]
