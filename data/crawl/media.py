"""Decides whether a response is HTML, from what its server and its crawler state."""

from __future__ import annotations

import re

HTML_TYPES = ("text/html", "application/xhtml+xml")
_TYPE = re.compile(r"[\"'\s,;]*([\w.+*-]+/[\w.+*-]+)")


def media_type(header: str) -> str:
    """The type in a `Content-Type` header, even if it is quoted, doubled, or has parameters after a space. Empty if there is none."""
    found = _TYPE.match(header)
    return found[1].lower() if found else ""


def html_type(stated: str, identified: str) -> str | None:
    """The HTML type of a response; empty if its body must decide, None if it has another type.

    `stated` is its `Content-Type`, `identified` its `WARC-Identified-Payload-Type`, which the index of a crawl uses.
    """
    types = [media_type(stated), media_type(identified)]
    for kind in types:
        if kind in HTML_TYPES:
            return kind
    return None if types[0] and types[0] != "*/*" else ""
