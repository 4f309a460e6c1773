"""Which of several moments is the newest, on machines whose clock was wrong once.

A moment that lies in the future is not believed: it counts as the oldest, so that a run that was recorded in 2099 by mistake is not the
newest for ever. A clock that was behind cannot be told from an old run, and does less harm.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

AHEAD = timedelta(days=1)
"""How far the clocks of machines that share a store may differ."""
_OLDEST = datetime(1970, 1, 1)


def believed(moment: datetime) -> datetime:
    """The moment (UTC, without a zone, as the ledger has it), or 1970 when it lies in the future."""
    return _OLDEST if moment > _latest() else moment


def believed_column(column: str) -> str:
    """The same as an SQL expression, to order by."""
    return f"case when {column} > timestamp '{_latest():%Y-%m-%d %H:%M:%S}' then timestamp '{_OLDEST:%Y-%m-%d}' else {column} end"


def _latest() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) + AHEAD
