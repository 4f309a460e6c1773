"""Records whose header spelling the standard allows but the WARC library does not read."""

import gzip
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mathquarry.data.crawl.warc import Dropped, Page, read_pages, read_pages_at
from tests.data.crawl.test_warc import LIMIT, read, record, warc_record

NAMES = re.compile(rb"^(WARC-[\w-]+|Content-[\w-]+)(?=:)", re.MULTILINE)
Spelling = Callable[[bytes], bytes]


def spelled(data: bytes, spell: Spelling) -> bytes:
    """The record's own header with each name through `spell`."""
    head, blank, rest = data.partition(b"\r\n\r\n")
    return NAMES.sub(lambda name: spell(name[0]), head) + blank + rest


def only(*names: bytes) -> Spelling:
    return lambda name: name.capitalize() if name in names else name


def reasons(found: list[Page | Dropped]) -> list[str]:
    return [item.reason if isinstance(item, Dropped) else "page" for item in found]


SPELLINGS: dict[str, Spelling] = {
    "lower": bytes.lower,
    "upper": bytes.upper,
    "title": bytes.title,
    "capitalized": bytes.capitalize,
    "length": only(b"Content-Length"),
    "type": only(b"WARC-Type"),
    "content-type": only(b"Content-Type"),
    "uri": only(b"WARC-Target-URI"),
}


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_names_in_any_case_name_the_same_fields(tmp_path: Path, spell: Spelling, compress: Callable[[bytes], bytes]) -> None:
    records = [record(f"http://h.example/{number}", b"<html>%d</html>" % number) for number in range(4)]
    odd = b"".join(compress(spelled(one, spell) if number % 2 else one) for number, one in enumerate(records))
    found = read(tmp_path / "pages.warc", odd)
    assert [(page.url[-1], page.html, page.date) for page in found if isinstance(page, Page)] == [
        (str(number), f"<html>{number}</html>", "2024-01-02T03:04:05Z") for number in range(4)
    ]
    assert len(found) == 4
    places = [(page.offset, page.url) for page in found[1::2] if isinstance(page, Page)]
    assert list(read_pages_at(str(tmp_path / "pages.warc"), places, LIMIT)) == found[1::2]


def test_a_file_packed_as_a_whole_and_a_text_of_a_page_are_read_too(tmp_path: Path) -> None:
    text = warc_record("conversion", "http://h.example/t", "text/plain", b"A title\nx < y\n")
    data = b"".join(spelled(one, bytes.lower) for one in (record("http://h.example/1"), text, record("http://h.example/2")))
    assert [page.url[-1] for page in read(tmp_path / "whole.warc.gz", gzip.compress(data)) if isinstance(page, Page)] == ["1", "t", "2"]


@given(
    st.lists(
        st.tuples(st.sampled_from([bytes, bytes.lower, bytes.upper, bytes.title]), st.booleans(), st.binary(max_size=40)),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_any_mixture_of_spellings_and_line_ends_gives_the_same_pages(
    tmp_path_factory: pytest.TempPathFactory, forms: list[tuple[Spelling, bool, bytes]], packed: bool
) -> None:
    data = b""
    for number, (spell, bare, tail) in enumerate(forms):
        whole = spelled(record(f"http://h.example/{number}", b"<html>" + tail.hex().encode()), spell)
        head, _, rest = whole.partition(b"\r\n\r\n")
        whole = head.replace(b"\r\n", b"\n") + b"\n\n" + rest if bare else whole
        data += gzip.compress(whole) if packed else whole
    found = read(tmp_path_factory.mktemp("mixed") / "pages.warc", data)
    assert [(page.url, page.html) for page in found if isinstance(page, Page)] == [
        (f"http://h.example/{number}", "<html>" + tail.hex()) for number, (_, _, tail) in enumerate(forms)
    ]
    assert reasons(found) == ["page"] * len(forms)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_wherever_such_a_file_is_cut_the_loss_is_reported(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    records = [compress(spelled(record(f"http://h.example/{number}"), bytes.lower)) for number in range(2)]
    data = b"".join(records)
    whole = read(tmp_path / "whole.warc", data)
    # The four bytes after a plain record's block, and nothing else, may be missing without loss.
    harmless = [len(records[0]) - lack for lack in range(5)] if compress is bytes else []
    for cut in range(len(records[0]) // 2, len(data) - 4, 3):
        found = read(tmp_path / "cut.warc", data[:cut])
        assert [item for item in found if isinstance(item, Page)] == whole[: reasons(found).count("page")], cut
        assert (cut == len(records[0]) or cut in harmless) or reasons(found)[-1] in ("broken-warc", "no-warc"), cut


def test_garbage_and_a_length_or_a_header_without_end_end_such_a_file_with_a_reason(tmp_path: Path) -> None:
    good = spelled(record("http://h.example/1"), bytes.lower)
    claims = good.replace(b"content-length: 62", b"content-length: 53687091200")
    header = b"WARC/1.0\r\nwarc-type: " + b"x" * 10**6
    for name, tail in {"garbage": b"garbage " * 10_000, "length": claims, "header": header}.items():
        assert reasons(read(tmp_path / f"{name}.warc", good + tail)) == ["page", "broken-warc"], name
        assert reasons(read(tmp_path / f"{name}.warc.gz", gzip.compress(good) + gzip.compress(tail))) == ["page", "broken-warc"], name


def test_a_record_without_a_type_is_dropped_by_name_and_the_next_read(tmp_path: Path) -> None:
    untyped = spelled(record("http://h.example/1"), lambda name: b"X-Type" if name == b"WARC-Type" else name)
    found = read(tmp_path / "pages.warc", untyped + record("http://h.example/2"))
    assert [(item.url[-1], reason) for item, reason in zip(found, reasons(found), strict=True)] == [("1", "no-type"), ("2", "page")]


def test_a_pipe_is_read_once_whatever_its_names(tmp_path: Path) -> None:
    pipe = tmp_path / "pages.warc"
    os.mkfifo(pipe)
    data = b"".join(spelled(record(f"http://h.example/{number}"), spell) for number, spell in enumerate((bytes, bytes.lower)))
    feeder = threading.Thread(target=lambda: pipe.write_bytes(data))
    feeder.start()
    found = list(read_pages(str(pipe), LIMIT))
    feeder.join()
    assert reasons(found) == ["page", "page"]


def test_line_ends_without_end_are_passed_over(tmp_path: Path) -> None:
    good, ends = spelled(record("http://h.example/1"), bytes.lower), b"\r\n" * (8 << 20)
    assert reasons(read(tmp_path / "pages.warc", good + ends)) == ["page", "broken-warc"]
    assert reasons(read(tmp_path / "pages.warc.gz", gzip.compress(good) + gzip.compress(ends))) == ["page"]
