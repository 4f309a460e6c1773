"""Formulas that are pictures: TeX from the alternative text or from the address that an image service was asked with."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus, urlsplit

from data.extract.tex import strip_directives

_CLASSES = re.compile(r"(?:^|\s)(?:latex|tex|math|ql-img-\S*|mwe-math-fallback-image-\S*|math-?image|equation-?image)(?:\s|$)")
_SOURCES = re.compile(r"latex\.php|codecogs\.com|mi[mn]etex|mathtex|tex\.cgi|latex\.cgi|[?&]cht=tx|/render/(?:svg|png)/|media/math")
_QUERY_FIELD = re.compile(r"(?:^|&)(?:latex|chl|tex|math|eq)=([^&]*(?:&(?:plus|space|amp);[^&]*)*)")
_SHORT = 3
"""Characters that any address may contain by chance."""
_DESCRIPTION = re.compile(r"(?i)\W*(latex|equation|formula|math|image|tex)\b[\w\s]*")


def may_be_formula(address: str, classes: str) -> bool:
    """Whether an image comes from a service that draws formulas, or is said to be one."""
    return _SOURCES.search(address) is not None or _CLASSES.search(classes) is not None


def image_formula(address: str, alt: str) -> str | None:
    """TeX of an image that may be a formula; None for one that says nothing of it."""
    if _looks_like_tex(alt, address):
        return alt
    return _address_source(address) if _SOURCES.search(address) else None


def _looks_like_tex(alt: str, address: str) -> bool:
    """Whether an alternative text is the formula and no description ("equation", "LaTeX formula", the name of the file)."""
    names_file = len(alt) > _SHORT and alt in address
    return bool(alt.strip()) and not names_file and not _DESCRIPTION.fullmatch(alt)


def _address_source(address: str) -> str | None:
    try:
        query = urlsplit(address).query
    except ValueError:
        return None
    field = _QUERY_FIELD.search(query)
    # A form's field writes a space as "+"; a bare query means the sign.
    return strip_directives(unquote_plus(field[1]) if field else unquote(query))
