"""Seeds derived from their purpose, so that no random number depends on earlier work."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b


def derive_seed(*parts: int | str | Sequence[int]) -> int:
    """Return a seed below 2^62 that depends on all `parts` and their order. It is the same in every process."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest()) >> 2
