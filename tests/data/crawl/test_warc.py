import gzip
import tracemalloc
import zlib
from pathlib import Path

import pytest

from mathquarry.data.crawl.warc import Dropped, Page, read_pages
from mathquarry.data.errors import MathQuarryError

LIMIT = 100_000


def record(
    url: str, body: bytes = b"<html>hello</html>", headers: str = "", status: str = "200 OK", content_type: str = "text/html"
) -> bytes:
    typed = f"Content-Type: {content_type}\r\n" if content_type else ""
    http = f"HTTP/1.1 {status}\r\n{typed}{headers}\r\n".encode() + body
    return warc_record("response", url, "application/http; msgtype=response", http)


def warc_record(kind: str, url: str, content_type: str, block: bytes) -> bytes:
    target = f"WARC-Target-URI: {url}\r\n" if url else ""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
        f"WARC-Date: 2024-01-02T03:04:05Z\r\n{target}Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def read(path: Path, data: bytes) -> list[Page | Dropped]:
    path.write_bytes(data)
    return list(read_pages(str(path), LIMIT))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tmp_path / "pages.warc"


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    return tmp_path / "pages.warc.gz"


def test_a_page_carries_its_url_text_offset_and_date(zipped: Path) -> None:
    first, second = (gzip.compress(record(f"http://h.example/{name}", f"<html>{name}é</html>".encode())) for name in "ab")
    pages = read(zipped, first + second)
    assert pages == [
        Page("http://h.example/a", "<html>aé</html>", 0, "2024-01-02T03:04:05Z", "text/html"),
        Page("http://h.example/b", "<html>bé</html>", len(first), "2024-01-02T03:04:05Z", "text/html"),
    ]


def test_only_whole_html_responses_of_status_200_are_pages(plain: Path) -> None:
    data = (
        warc_record("warcinfo", "", "application/warc-fields", b"software: x\r\n")
        + warc_record("request", "http://h.example/", "application/http; msgtype=request", b"GET / HTTP/1.1\r\n\r\n")
        + record("http://h.example/gone", status="404 Not Found")
        + record("http://h.example/image", content_type="image/png")
        + record("http://h.example/xhtml", content_type="application/xhtml+xml; charset=utf-8")
        + record("http://h.example/untyped", content_type="")
        + record("http://h.example/untyped.txt", b"just text", content_type="")
        + warc_record("response", "http://h.example/junk", "application/http; msgtype=response", b"no http here")
        + record("")
    )
    found = [(item.url.rpartition("/")[2], item.reason if isinstance(item, Dropped) else "page") for item in read(plain, data)]
    assert found == [
        ("gone", "http-status"),
        ("image", "not-html"),
        ("xhtml", "page"),
        ("untyped", "page"),
        ("untyped.txt", "not-html"),
        ("junk", "bad-http"),
        ("", "no-url"),
    ]


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


BODY = b"<html>" + b"packed " * 50 + b"</html>"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Encoding: gzip\r\n", gzip.compress(BODY, mtime=0)),
        ("Content-Encoding: deflate\r\n", zlib.compress(BODY)),
        ("Content-Encoding: deflate\r\n", raw_deflate(BODY)),
        ("Transfer-Encoding: chunked\r\n", b"6\r\n" + BODY[:6] + b"\r\n%x;a=b\r\n" % (len(BODY) - 6) + BODY[6:] + b"\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", gzip.compress(BODY, mtime=0)),
        ("Transfer-Encoding: chunked\r\n", BODY),
        ("Content-Encoding: gzip\r\n", BODY),
        ("Content-Encoding: br\r\n", BODY),
        ("Content-Encoding: unheard-of\r\n", BODY),
    ],
    ids=["gzip", "zlib", "deflate", "chunks", "gzip-not-chunked", "not-chunked", "not-gzip", "not-brotli", "unknown"],
)
def test_a_body_is_decoded_whether_or_not_its_headers_tell_the_truth(plain: Path, headers: str, body: bytes) -> None:
    (page,) = read(plain, record("http://h.example/", body, headers))
    assert isinstance(page, Page)
    assert page.html == BODY.decode()


def test_a_body_in_a_broken_coding_is_dropped_and_the_next_page_read(plain: Path) -> None:
    found = read(plain, record("http://h.example/1", b"\x01\x02\x03", "Content-Encoding: br\r\n") + record("http://h.example/2"))
    assert [item.reason if isinstance(item, Dropped) else "page" for item in found] == ["bad-encoding", "page"]


@pytest.mark.parametrize(
    ("body", "header_charset", "text"),
    [
        ("é".encode(), "iso-8859-1", "é"),  # valid UTF-8 goes before a declaration
        ("é".encode("latin-1"), "iso-8859-1", "é"),
        ('<meta charset="windows-1251">при'.encode("cp1251"), "", '<meta charset="windows-1251">при'),
        ("\ufeffé".encode("utf-16"), "", "é"),
        ("日本語の文章です。数学の問題を解く。".encode("iso2022_jp"), "iso-2022-jp", "日本語の文章です。数学の問題を解く。"),
        ("數學".encode("big5"), "big5", "數學"),
    ],
)
def test_text_is_decoded_by_what_fits(plain: Path, body: bytes, header_charset: str, text: str) -> None:
    declared = f"text/html; charset={header_charset}" if header_charset else "text/html"
    (page,) = read(plain, record("http://h.example/", b"<html>" + body if not body.startswith(b"\xff") else body, content_type=declared))
    assert isinstance(page, Page)
    assert page.html.removeprefix("<html>").strip("\ufeff") == text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=r"absent\.warc\.gz does not exist"):
        list(read_pages(str(tmp_path / "absent.warc.gz"), LIMIT))


@pytest.mark.parametrize("name", ["gone", "folder"])
def test_what_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MathQuarryError, match=name):
        list(read_pages(str(tmp_path / name), LIMIT))


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(MathQuarryError, match="nonsense://bucket/a"):
        list(read_pages("nonsense://bucket/a.warc", LIMIT))


@pytest.mark.parametrize(
    "data",
    [b"", b"hello\n" * 500, gzip.compress(b"hello\n" * 99, mtime=0), b"\x1f\x8b" + b"\7" * 500, bytes(500), b"WARC/1.0\r\n\r\n", b"<html>"],
    ids=["empty", "text", "gzipped-text", "broken-gzip", "zeros", "bare-header", "html"],
)
def test_a_file_without_any_record_is_dropped_by_name(zipped: Path, data: bytes) -> None:
    (found,) = read(zipped, data)
    assert isinstance(found, Dropped)
    assert (found.url, found.reason) == ("", "no-warc")
    assert "pages.warc.gz holds no readable WARC record" in found.detail


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_wherever_a_file_is_cut_no_page_is_cut_and_the_loss_is_reported(plain: Path, compress) -> None:  # type: ignore[no-untyped-def]
    records = [compress(record(f"http://h.example/{number}", f"<html>{number + 10}</html>".encode())) for number in range(3)]
    data = b"".join(records)
    whole = read(plain, data)
    assert [type(item) for item in whole] == [Page] * 3
    for cut in range(len(records[0]), len(data)):
        found = read(plain, data[:cut])
        pages = [item for item in found if isinstance(item, Page)]
        assert pages == whole[: len(pages)]
        at_boundary = cut in (len(records[0]), len(records[0]) + len(records[1]))
        # The four bytes after a plain record's block, and nothing else, may be missing without loss.
        harmless = compress is bytes and len(pages) * len(records[0]) - cut in range(5)
        assert (isinstance(found[-1], Dropped) and found[-1].reason == "broken-warc") is not (at_boundary or harmless), cut


def test_garbage_in_the_middle_ends_the_file_with_a_reason(zipped: Path) -> None:
    good = gzip.compress(record("http://h.example/1"))
    found = read(zipped, good + b"garbage" * 100 + good)
    assert isinstance(found[0], Page)
    assert isinstance(found[-1], Dropped)
    assert (len(found), found[-1].reason) == (2, "broken-warc")
    assert "pages.warc.gz" in found[-1].detail


def peak_memory(path: Path) -> tuple[list[Page | Dropped], int]:
    tracemalloc.start()
    try:
        found = list(read_pages(str(path), LIMIT))
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size)) + packer.flush()


def test_large_bodies_are_dropped_in_bounded_memory_and_the_next_page_read(zipped: Path) -> None:
    large = gzip.compress(record("http://h.example/large", bytes(30 << 20)), 1)
    packed = gzip.compress(record("http://h.example/bomb", bomb(30), "Content-Encoding: gzip\r\n"), 1)
    nested = gzip.compress(record("http://h.example/nested", gzip.compress(bomb(30)), "Content-Encoding: gzip, gzip\r\n"), 1)
    zipped.write_bytes(large + packed + nested + gzip.compress(record("http://h.example/next")))
    found, peak = peak_memory(zipped)
    assert [(item.url[17:], item.reason if isinstance(item, Dropped) else "page") for item in found] == [
        ("large", "too-large"),
        ("bomb", "too-large"),
        ("nested", "too-large"),
        ("next", "page"),
    ]
    assert peak < 10 * LIMIT


def test_a_body_of_exactly_the_limit_is_a_page(plain: Path) -> None:
    body = b"<html>".ljust(LIMIT)
    pages = read(plain, record("http://h.example/", body) + record("http://h.example/", gzip.compress(body), "Content-Encoding: gzip\r\n"))
    assert [isinstance(page, Page) and len(page.html) for page in pages] == [LIMIT, LIMIT]


def test_an_fsspec_url_is_read(plain: Path) -> None:
    plain.write_bytes(record("http://h.example/"))
    assert len(list(read_pages(plain.as_uri(), LIMIT))) == 1


EXPECTED_CASES = {
    "cc.warc.gz": ["page"],
    "example-bad-non-chunked.warc.gz": ["page"],
    "example-digest.warc": [],
    "example-iana.org-chunked.warc": ["page"],
    "example-trunc.warc": ["page", "broken-warc"],
    "example-wrong-chunks.warc.gz": ["page"],
    "example.arc.gz": ["no-warc"],  # an older format
    "example.warc.gz": ["page"],
    "gzip_extra_sl.warc.gz": [],
    "whirlwind.warc.gz": ["page"],
    "whirlwind.warc.wat.gz": [],
    "whirlwind.warc.wet.gz": ["page"],
}


@pytest.mark.parametrize("name", EXPECTED_CASES)
def test_real_and_broken_captures_are_survived(shared_data: Path, name: str) -> None:
    path = shared_data / "web" / "warc-cases" / name
    found = list(read_pages(str(path), 5_000_000))
    assert [item.reason if isinstance(item, Dropped) else "page" for item in found] == EXPECTED_CASES[name]
    assert all("</html>" in item.html for item in found if isinstance(item, Page))


def test_every_page_of_the_real_sample_is_read(shared_data: Path) -> None:
    found = list(read_pages(str(shared_data / "web" / "sample.warc.gz"), 5_000_000))
    assert (len(found), {type(item) for item in found}) == (1359, {Page})


def test_several_gzip_members_and_a_gzipped_transfer_are_unpacked(plain: Path) -> None:
    members = gzip.compress(b"<html>one ") + gzip.compress(b"two</html>")
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(members), members)
    data = record("http://h.example/members", members, "Content-Encoding: gzip\r\n")
    data += record("http://h.example/transfer", chunked, "Transfer-Encoding: gzip, chunked\r\n")
    assert [page.html for page in read(plain, data) if isinstance(page, Page)] == ["<html>one two</html>"] * 2


LINES = ["HTTP/1.1 200 OK", "Content-Type: text/html; charset=utf-8", "X: y"]


@pytest.mark.parametrize(
    "header",
    ["\n".join(LINES) + "\n\n", "\r\n".join(LINES) + "\n\n", "\n".join(LINES) + "\r\n\n", "\n".join(LINES) + "\n\r\n"],
    ids=["lf", "lf-at-the-end", "crlf-at-the-end", "lf-then-crlf"],
)
@pytest.mark.parametrize("coding", ["", "Content-Encoding: gzip\n"], ids=["plain", "called-gzip"])
def test_http_headers_may_end_in_lf_only(plain: Path, header: str, coding: str) -> None:
    http = header.replace("X: y", coding + "X: y").encode()
    bodies = [b"<html>x < y</html>", b"Bare text, then <b>a tag</b>"]
    block = [warc_record("response", "http://h.example/", "application/http; msgtype=response", http + body) for body in bodies]
    found = read(plain, b"".join(block))
    assert [page.html for page in found if isinstance(page, Page)] == [body.decode() for body in bodies]


def identified(content_type: str, identified: str, body: bytes = b"<html>hello</html>") -> bytes:
    whole = record("http://h.example/", body, content_type=content_type)
    return whole.replace(b"WARC-Date:", b"WARC-Identified-Payload-Type: " + identified.encode() + b"\r\nWARC-Date:")


@pytest.mark.parametrize("stated", ["application/octet-stream", "*/*", "text/plain", "", "application/x-httpd-php", "unknown"])
def test_a_payload_that_the_crawler_identified_as_html_is_a_page(plain: Path, stated: str) -> None:
    for name in ("text/html", "application/xhtml+xml", "Text/HTML; charset=utf-8"):
        (page,) = read(plain, identified(stated, name))
        assert isinstance(page, Page)
        assert page.content_type in ("text/html", "application/xhtml+xml")


@pytest.mark.parametrize(
    "stated", ['"text/html"', "text/html, text/html", "text/html charset=utf-8", "TEXT/HTML;", " text/html", "'text/html'; charset=utf-8"]
)
def test_an_html_type_that_is_written_untidily_is_one(plain: Path, stated: str) -> None:
    (page,) = read(plain, record("http://h.example/", content_type=stated))
    assert isinstance(page, Page)


def test_other_types_stay_out(plain: Path) -> None:
    for stated, name in [("image/png", "image/png"), ("application/pdf", ""), ("application/json", "text/plain"), ("text/htmlx", "")]:
        (found,) = read(plain, identified(stated, name))
        assert isinstance(found, Dropped)
        assert found.reason == "not-html", (stated, name)
    (found,) = read(plain, identified("*/*", "", b"bare text"))
    assert isinstance(found, Dropped)
