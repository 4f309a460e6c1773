import pytest

from mathquarry.data.extract.language import UNKNOWN, detect_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Tom has five apples and buys seven more at the market. How many apples does Tom have now?", "en"),
        (
            "Das Haus steht am Rand der Stadt, und niemand weiß, wer darin wohnt. Die Fenster sind geschlossen, "
            "der Garten ist verwildert, und auf dem Dach wächst Gras. Wenn es regnet, tropft das Wasser durch die Decke in die Küche.",
            "de",
        ),
        ("小明有五个苹果，又买了七个，请问他现在一共有多少个苹果？", "zh"),
        ("设 f(x) = ax + b 且 f(1) = 2，求 a 与 b 的值。", "zh"),
        ("太郎はりんごを五つ持っています。あと七つ買いました。全部でいくつですか。", "ja"),
        ("철수는 사과를 다섯 개 가지고 있습니다. 모두 몇 개입니까?", "ko"),
        ("12 + 7 = 19", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_language(text: str, language: str) -> None:
    assert detect_language(text) == language


def test_a_chinese_quotation_does_not_make_an_english_page_chinese() -> None:
    text = "The word for mathematics in Chinese is 数学, and it is read by many people in schools across the country every day."
    assert detect_language(text) == "en"
