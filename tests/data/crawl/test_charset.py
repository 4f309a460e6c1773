import pytest

from mathquarry.data.crawl.charset import decode_text

SENTENCES = {
    "de": "Größe der Fläche für x und jede weitere Lösung über dem Körper.",
    "fr": "La démonstration du théorème général était déjà détaillée à côté.",
    "ru": "Пусть функция непрерывна на отрезке, тогда она ограничена.",
    "zh": "设函数在区间上连续,则它有最大值和最小值。",
    "tw": "設函數在區間上連續,則它有最大值和最小值。",
    "ja": "関数が区間で連続ならば、最大値と最小値をとることを示せ。",
    "ko": "함수가 구간에서 연속이면 최댓값과 최솟값을 갖는다.",
}
BYTES = [
    *((language, "utf-8", "utf-8") for language in SENTENCES),
    ("de", "cp1252", "windows-1252"),
    ("fr", "latin-1", "iso-8859-1"),
    ("ru", "cp1251", "windows-1251"),
    ("ru", "koi8-r", "koi8-r"),
    ("zh", "gbk", "gbk"),
    ("zh", "gb2312", "gb2312"),
    ("zh", "gb18030", "gb18030"),
    ("tw", "big5", "big5"),
    ("ja", "shift_jis", "Shift_JIS"),
    ("ja", "cp932", "windows-31j"),
    ("ja", "euc-jp", "euc-jp"),
    ("ko", "euc-kr", "euc-kr"),
    ("ko", "cp949", "cp949"),
]
BY_FORM = [("ja", "iso-2022-jp"), ("zh", "utf-16-le"), ("ja", "utf-16-be"), ("de", "utf-16-le"), ("zh", "utf-16")]
PARAGRAPHS = 30


def page(language: str, codec: str, meta: str | None) -> bytes:
    head = f'<meta charset="{meta}">' if meta else ""
    return f"<html><head>{head}<title>t</title></head><body>{f'<p>{SENTENCES[language]}' * PARAGRAPHS}".encode(codec)


@pytest.mark.parametrize(("language", "codec", "label"), BYTES)
def test_a_page_is_read_by_header_meta_or_form_and_a_wrong_header_does_no_harm(language: str, codec: str, label: str) -> None:
    sentence = SENTENCES[language]
    for meta, header in [
        (None, label),
        (label, None),
        (label, label),
        (label, "iso-8859-1"),
        (label, "utf-8"),
        (label, "no-such-coding"),
        (None, None),
        (None, "iso-8859-1"),
        (None, "utf-8"),
    ]:
        assert decode_text(page(language, codec, meta), header).count(sentence) == PARAGRAPHS, (meta, header)


@pytest.mark.parametrize(("language", "codec", "label"), [row for row in BYTES if row[1] not in ("cp1252", "latin-1", "cp1251", "koi8-r")])
@pytest.mark.parametrize("where", ["header", "meta"])
def test_one_bad_byte_or_a_cut_character_costs_no_more_than_its_paragraph(language: str, codec: str, label: str, where: str) -> None:
    body = page(language, codec, label if where == "meta" else None)
    header = label if where == "header" else None
    cut = page(language, codec, label if where == "meta" else None).rstrip(b".")[:-1]
    assert decode_text(cut, header).count(SENTENCES[language]) >= PARAGRAPHS - 1
    middle = body.index(b"<p>", len(body) // 2)
    stray = decode_text(body[:middle] + b"\xff" + body[middle:], header)
    assert stray.count(SENTENCES[language]) >= PARAGRAPHS - 1


@pytest.mark.parametrize(("language", "codec"), BY_FORM)
@pytest.mark.parametrize("header", [None, "utf-8", "iso-8859-1"])
def test_utf_16_and_iso_2022_jp_are_told_by_their_form(language: str, codec: str, header: str | None) -> None:
    for meta in (None, codec, "utf-8"):
        assert decode_text(page(language, codec, meta), header).count(SENTENCES[language]) == PARAGRAPHS


def test_a_stray_byte_in_utf_8_gives_one_replacement_character() -> None:
    body = ('<meta charset="utf-8">' + "<p>x ≤ y, Größe</p>" * 30).encode()
    middle = body.index(b"<p>", len(body) // 2)
    text = decode_text(body[:middle] + b"\x96" + body[middle:], "utf-8")
    assert (text.count("x ≤ y, Größe"), text.count("\ufffd")) == (30, 1)
