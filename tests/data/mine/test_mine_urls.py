import pytest

from mathquarry.data.crawl.urls import parse_address


@pytest.mark.parametrize(
    "spelling",
    [
        "https://example.org/a/b?x=1&y=2",
        "http://example.org/a/b?x=1&y=2",
        "HTTP://Example.ORG:80/a/b?x=1&y=2",
        "https://example.org:443/a/b/?y=2&x=1#part",
        "https://user:pass@example.org/a/b?x=1&utm_source=mail&y=2&fbclid=abc",
        "https://example.org/a/b;jsessionid=0F?x=1&y=2",
        " https://example.org./a/%62?x=1&y=2 ",
    ],
)
def test_spellings_of_one_address_have_one_canonical_form(spelling: str) -> None:
    address = parse_address(spelling)
    assert address is not None
    assert address.canonical == "example.org/a/b?x=1&y=2"


@pytest.mark.parametrize(
    "other", ["https://example.org/a/B?x=1&y=2", "https://www.example.org/a/b?x=1&y=2", "https://example.org:8080/a/b?x=1&y=2"]
)
def test_different_addresses_stay_different(other: str) -> None:
    address = parse_address(other)
    assert address is not None
    assert address.canonical != "example.org/a/b?x=1&y=2"


def test_registered_domain_follows_the_public_suffix_list() -> None:
    address = parse_address("https://maths.shop.example.co.uk/x")
    assert address is not None
    assert (address.host, address.domain, address.path) == ("maths.shop.example.co.uk", "example.co.uk", "/x")


@pytest.mark.parametrize("bad", ["", "example.org/x", "ftp://example.org/", "http://[broken", "http://example.org:99999/", "https:///path"])
def test_what_is_no_web_address_is_refused(bad: str) -> None:
    assert parse_address(bad) is None
