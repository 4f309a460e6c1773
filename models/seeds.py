"""Seeds derived from what they are for, so that no random number depends on what was done before it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b


def derive_seed(*parts: int | str | Sequence[int]) -> int:
    """A seed below 2^62 that depends on all `parts` and their order, the same in every process."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest()) >> 2
