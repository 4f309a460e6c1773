"""What a person should know of a round, in sentences: they stand in its record, the log and the report."""

from __future__ import annotations

from data.config import MineConfig
from data.mine.recall import Recall
from data.mine.seed import Seed
from data.mine.separation import Separation

# A heap of equal scores is worth a warning from so many pages, and from this share of what was collected.
_HEAP_PAGES, _HEAP_SHARE = 10, 0.01


def seed_warnings(seed: Seed, config: MineConfig) -> list[str]:
    """Fewer negatives than the recipe wants."""
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
    """A classifier that was not measured, and a first pass that does not separate: it lets nearly everything through."""
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
    """A threshold that cuts a heap of `pages` equal scores, `left` of which were not collected."""
    if not left or pages < max(_HEAP_PAGES, _HEAP_SHARE * collected):
        return []
    return [
        f"the threshold cuts a heap of equal scores: {pages:,} pages have the score {threshold:.6g}, {pages - left:,} of them were "
        f"collected and {left:,} not, by the hash of their addresses. Change token_budgets, or train the classifier longer."
    ]
