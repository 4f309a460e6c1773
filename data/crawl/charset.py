"""Decodes the bytes of an HTML page to text.

The first of these that applies decides:
1. a byte order mark; UTF-16 without one, by the positions of its zero bytes; the escapes of ISO-2022-JP in a 7-bit body;
2. UTF-8, if the body is valid or nearly valid UTF-8: declarations are wrong far more often than other text happens to be valid UTF-8;
3. the HTTP charset, then `<meta>`, each if strict decoding succeeds. Nearly any bytes decode in a single-byte coding, so a single-byte
   HTTP charset yields to a multi-byte `<meta>` that decodes strictly. Latin-1, which servers send by default, yields to any `<meta>`;
4. the HTTP charset, then `<meta>`, if the body is nearly valid in it: a few bad bytes, or a character cut at the end;
5. detection, or UTF-8 if that finds nothing.

Bad bytes become U+FFFD.
"""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_META = re.compile(rb"<(?:meta\b[^>]{0,300}?charset|\?xml\b[^>]{0,100}?encoding)\s*=\s*[\"']?\s*([\w:.+-]{1,40})", re.IGNORECASE)
_META_WITHIN = 8192
_SAMPLE = 8192
_UTF_16_WITHIN = 4096
_ISO_2022_JP = re.compile(rb"\x1b(?:\$[@B]|\([JI])")
_RUN = re.compile(rb"[\x80-\xff]{2,}")
_ASCII = bytes(range(0x80))
# A character of two bytes, without punctuation; KS X 1001's hangul; common Big5 characters.
_PAIR = re.compile(rb"[\xa1-\xa3][\x40-\xfe]|([\xa4-\xfe][\x40-\x7e\x80-\xfe])")
_HANGUL, _BIG5 = range(0xB0, 0xC9), range(0xA4, 0xC7)
# Python's codec for a coding of the Encoding Standard, where the codec of the same name has fewer characters, and for other labels.
_CODECS = {
    "shift_jis": "cp932",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "cp949": "cp949",
    "uhc": "cp949",
    "cp936": "gb18030",
}
_MULTI_BYTE = {"cp932", "gb18030", "cp949", "big5hkscs", "euc_jp"}
_LATIN = "cp1252"
"""On the web, ISO-8859-1 and ASCII mean this too."""
_UNUSABLE = {"utf-16-le", "utf-16-be", "utf-16", "iso2022_jp"}
"""Codings that are ignored as labels: UTF-16 and ISO-2022-JP bodies have already been recognized by their bytes."""
_GOOD_FOR_BAD = 8
"""Least number of whole multi-byte characters per bad byte in a nearly valid body (our choice)."""
_FEW = 3
"""Most bad bytes in a body that is declared UTF-8 and otherwise ASCII (our choice)."""


def decode_text(body: bytes, charset: str | None) -> str:
    """Text of an HTML body that an HTTP header says is in `charset`; see the module for what decides."""
    for mark, coding in _BOMS.items():
        if body.startswith(mark):
            return body[len(mark) :].decode(coding, "replace")
    if b"\0" in body and (by_zeros := _utf_16(body)):
        return body.decode(by_zeros, "replace")
    if b"\x1b" in body and body.isascii() and _ISO_2022_JP.search(body):
        return body.decode("iso2022_jp_ext", "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_valid_utf_8(body, charset, error.start)


def _not_valid_utf_8(body: bytes, charset: str | None, place: int) -> str:
    """`place` is the position of the first bad byte. Replacing many bad bytes is slow, so the bytes around the first are tried first."""
    near = body[max(0, place - _SAMPLE // 2) : place + _SAMPLE // 2]
    bad, good = _bad_and_good(near.decode("utf-8", "replace"), near)
    text = None
    if bad <= max(_FEW, good):
        text = body.decode("utf-8", "replace")
        bad, good = _bad_and_good(text, body)
        if good and bad * _GOOD_FOR_BAD <= good:
            return text
    found = _META.search(body, 0, _META_WITHIN)
    header, meta = _codec(charset), _codec(found[1].decode("ascii", "replace") if found else None)
    declared = [codec for codec in (header, meta) if codec and codec != "utf-8"]
    if len(declared) == 2 and header not in _MULTI_BYTE and (meta in _MULTI_BYTE or header == _LATIN):
        declared.reverse()
    for codec in declared:
        if codec == _LATIN and _in_runs(body[place : place + _SAMPLE]):
            continue  # non-ASCII letters of Western text stand alone
        if (decoded := _strict(body, codec)) is not None:
            return decoded
    if text is not None and bad <= _FEW and "utf-8" in (header, meta):
        return text
    for codec in declared:
        if codec == _LATIN:
            continue
        decoded = body.decode(codec, "replace")
        bad, good = _bad_and_good(decoded, body)
        if good and bad * _GOOD_FOR_BAD <= good:
            return decoded
    return body.decode(_detected(body, place) or next(iter(declared), "utf-8"), "replace")


def _utf_16(body: bytes) -> str | None:
    """The byte order of a UTF-16 body without a mark, or None: every second byte of its markup is zero."""
    start = body[:_UTF_16_WITHIN]
    if start.startswith((b"<\0", b"\0<")):
        return "utf-16-le" if start[1] == 0 else "utf-16-be"
    even, odd = start[::2].count(0), start[1::2].count(0)
    if max(even, odd) * 16 < len(start) or min(even, odd) * 4 > max(even, odd):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _codec(label: str | None) -> str | None:
    """Python's codec for a label from HTTP, HTML or the detector; None for an unknown one."""
    if not label:
        return None
    label = label.strip(" \t\"'").lower()
    name = map_encoding_to_html5(label, fallback_utf8=False) or label
    codec = _CODECS.get(name, name)
    try:
        return None if codec in _UNUSABLE or not codecs.lookup(codec)._is_text_encoding else codec
    except LookupError:
        return None


def _detected(body: bytes, place: int) -> str | None:
    """The detector's result, except for Big5 and EUC-KR, which it mistakes for GB 18030 or does not know: their lead bytes are few."""
    found = _codec(detect_encoding(body, from_html_meta=False))
    if found not in ("utf-8", "gb18030", None):
        return found
    pairs = [pair for pair in _PAIR.findall(body, place, place + _SAMPLE) if pair]
    hangul = sum(lead in _HANGUL and trail > 0xA0 for lead, trail in pairs)
    if pairs and hangul * 10 > 9 * len(pairs) and _strict(body, "cp949") is not None:
        return "cp949"
    common = sum(lead in _BIG5 and not 0x7F <= trail <= 0xA0 for lead, trail in pairs)
    ending_in_ascii = sum(trail < 0x80 for _, trail in pairs)
    if pairs and common * 10 > 9 * len(pairs) and ending_in_ascii * 10 > len(pairs) and _strict(body, "big5hkscs") is not None:
        return "big5hkscs"
    return found


def _strict(body: bytes, codec: str) -> str | None:
    try:
        # Five bytes have no character in windows-1252. Browsers treat them as control characters, so they do not rule it out.
        return body.decode(codec, "replace" if codec == _LATIN else "strict")
    except UnicodeDecodeError:
        return None


def _bad_and_good(text: str, body: bytes) -> tuple[int, int]:
    """Counts of the replacement characters from decoding, without one for a cut end, and of other non-ASCII characters."""
    marks = text.count("\ufffd")
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    return max(0, marks - body.count(b"\xef\xbf\xbd") - text.endswith("\ufffd")), beyond - marks


def _in_runs(body: bytes) -> bool:
    """Whether most non-ASCII bytes are adjacent to another, as in Chinese, Japanese, Korean or Cyrillic text."""
    return 2 * sum(map(len, _RUN.findall(body))) > len(body.translate(None, _ASCII))
