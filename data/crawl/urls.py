"""URLs: one canonical form for all spellings of an address, and its host, registered domain and path.

Canonical form: no scheme, lower-case host without default port or credentials, no fragment, no tracking parameters,
other parameters sorted, no trailing slash, percent-encoding normalized. `http` and `https` are the same page. `www.`
stays, since some sites serve other pages there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import xxhash
from w3lib.url import canonicalize_url

if TYPE_CHECKING:
    from tldextract import TLDExtract

_TRACKING = re.compile(
    r"(utm_\w+|fbclid|gclid|dclid|msclkid|yclid|igshid|mc_cid|mc_eid|_ga|_gl|ref_src|phpsessid|jsessionid|sessionid|sid)$", re.IGNORECASE
)
_PATH_SESSION = re.compile(r";jsessionid=[^/?#]*", re.IGNORECASE)
_DEFAULT_PORTS = {80, 443}


@cache
def _suffixes() -> TLDExtract:
    """The suffix list shipped with the package; no network, no cache on disk."""
    from tldextract import TLDExtract  # imports an HTTP client, which takes longer than a run that finds everything

    return TLDExtract(suffix_list_urls=(), cache_dir=None)


@dataclass(frozen=True)
class Address:
    """The parts of a URL that mining needs."""

    canonical: str
    host: str
    domain: str
    path: str
    """Path without query, at least "/"."""


def parse_address(url: str) -> Address | None:
    """Parse a URL; None if it is not an http(s) URL with a host."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme.lower() not in ("http", "https") or not host:
        return None
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _TRACKING.match(k)])
    path = _PATH_SESSION.sub("", parts.path) or "/"
    where = host if port is None or port in _DEFAULT_PORTS else f"{host}:{port}"
    try:
        tidy = urlsplit(canonicalize_url(f"http://{where}{path}?{query}"))
    except ValueError:
        return None
    canonical_path = tidy.path.rstrip("/")
    canonical = f"{tidy.netloc}{canonical_path}" + (f"?{tidy.query}" if tidy.query else "")
    return Address(canonical, tidy.hostname or host, _registered_domain(host), tidy.path or "/")


def url_key(canonical: str) -> int:
    """64-bit hash of a canonical URL, to order pages and draw samples independently of the crawl's order."""
    return xxhash.xxh3_64_intdigest(canonical.encode("utf-8", "replace"))


@lru_cache(maxsize=100_000)
def _registered_domain(host: str) -> str:
    """`example.co.uk` for `maths.example.co.uk`; the host itself if there is none (IP addresses, bare suffixes)."""
    return _suffixes()(host).top_domain_under_public_suffix or host
