"""Finds the newest of several timestamps when some machine's clock was once wrong.

A timestamp in the future is treated as the oldest. Otherwise a run recorded in 2099 by mistake would stay the newest forever. A clock that
was slow cannot be told from an old run, and does less harm.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

AHEAD = timedelta(days=1)
"""How far the clocks of machines that share a store may differ."""
_OLDEST = datetime(1970, 1, 1)


def believed(moment: datetime) -> datetime:
    """The timestamp (UTC, without a zone, as the ledger stores it), or 1970 when it lies in the future."""
    return _OLDEST if moment > _latest() else moment


def believed_column(column: str) -> str:
    """The same as an SQL expression for `order by`."""
    return f"case when {column} > timestamp '{_latest():%Y-%m-%d %H:%M:%S}' then timestamp '{_OLDEST:%Y-%m-%d}' else {column} end"


def _latest() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) + AHEAD
