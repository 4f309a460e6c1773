"""URLs: one canonical form for all spellings of an address, its host, registered domain and path.

Canonical form: no scheme, lower-case host without default port or credentials, no fragment, no tracking parameters,
the others sorted, no trailing slash, percent-encoding normalised. `http` and `https` are the same page. `www.` stays:
some sites serve other pages there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode, urlsplit

import xxhash
from tldextract import TLDExtract
from w3lib.url import canonicalize_url

_TRACKING = re.compile(
    r"(utm_\w+|fbclid|gclid|dclid|msclkid|yclid|igshid|mc_cid|mc_eid|_ga|_gl|ref_src|phpsessid|jsessionid|sessionid|sid)$", re.IGNORECASE
)
_PATH_SESSION = re.compile(r";jsessionid=[^/?#]*", re.IGNORECASE)
_DEFAULT_PORTS = {80, 443}

# The list of suffixes that the package ships; no network, no cache on disk.
_suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None)


@dataclass(frozen=True)
class Address:
    """What mining needs to know of a URL."""

    canonical: str
    host: str
    domain: str
    path: str
    """Path without query, at least "/"."""


def parse_address(url: str) -> Address | None:
    """Take a URL apart; None when it is no http(s) URL with a host."""
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
    """64-bit hash of a canonical URL: orders pages and draws samples whatever the order of the crawl."""
    return xxhash.xxh3_64_intdigest(canonical.encode("utf-8", "replace"))


@lru_cache(maxsize=100_000)
def _registered_domain(host: str) -> str:
    """`example.co.uk` for `maths.example.co.uk`; the host itself where there is none (IP addresses, bare suffixes)."""
    return _suffixes(host).top_domain_under_public_suffix or host
