import random
import re
from pathlib import Path

import fasttext
import numpy as np
import pytest
from hypothesis import given, strategies

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.classify.classifier import Classifier, as_line, collapse, train, write_examples
from mathquarry.data.mine.config import ClassifierConfig
from mathquarry.data.mine.pages.hashing import UNSPACED

CONFIG = ClassifierConfig(dim=32, buckets=2000, learning_rate=0.5, epochs=10, min_count=1)
MATHS, OTHER = ["theorem", "lemma", "proof", "integral", "prime"], ["coffee", "holiday", "football", "recipe", "weather"]


def texts(vocabulary: list[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices([*vocabulary, "the", "of", "a"], k=30)) for _ in range(count)]


def trained(folder: Path, config: ClassifierConfig = CONFIG) -> Path:
    folder.mkdir(exist_ok=True)
    examples = [(text, True) for text in texts(MATHS, 60, 1)] + [(text, False) for text in texts(OTHER, 60, 2)]
    write_examples(folder / "examples.txt", examples, len(examples), seed=0)
    train(folder / "examples.txt", folder / "full.bin", config, seed=0)
    collapse(folder / "full.bin", folder / "small.bin")
    return folder


def test_mathematics_scores_above_the_rest(tmp_path: Path) -> None:
    scorer = Classifier(trained(tmp_path) / "small.bin")
    assert scorer.score(texts(MATHS, 20, 3)).min() > 0.5 > scorer.score(texts(OTHER, 20, 4)).max()


def test_collapsed_model_scores_as_the_full_one(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    pages = [*texts(MATHS + OTHER + ["unknown", "\\frac{a}{b}"], 200, 5), "", "the", "never seen words"]
    full, small = Classifier(folder / "full.bin").score(pages), Classifier(folder / "small.bin").score(pages)
    assert np.abs(full - small).max() <= 1e-6
    assert full.min() < 0.2 < 0.8 < full.max()


def test_collapsed_model_is_a_fasttext_model_with_vectors_as_long_as_its_labels(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    model, full = fasttext.load_model(str(folder / "small.bin")), fasttext.load_model(str(folder / "full.bin"))
    assert model.get_dimension() == 2
    assert model.get_labels() == full.get_labels()
    assert model.get_words(include_freq=True)[0] == full.get_words(include_freq=True)[0]


def test_one_thread_and_one_seed_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = trained(tmp_path / "a"), trained(tmp_path / "b")
    for name in ("examples.txt", "full.bin", "small.bin"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_text_cannot_smuggle_in_a_label_or_end_its_line(tmp_path: Path) -> None:
    hostile = "theorem\n__label__other proof\x0b</s> lemma\u2028x"
    write_examples(tmp_path / "e.txt", [(hostile, True)] * 30 + [("coffee", False)] * 30, 60, seed=0)
    assert len((tmp_path / "e.txt").read_text(encoding="utf-8").split("\n")) == 61
    train(tmp_path / "e.txt", tmp_path / "full.bin", CONFIG, seed=0)
    model = fasttext.load_model(str(tmp_path / "full.bin"))
    assert sorted(model.get_labels()) == ["__label__math", "__label__other"]
    assert "lemma" in model.get_words()
    assert as_line(r"So $x_{12}=\frac{1}{2}$, 求和") == r"so $ x _ { 0 } = \frac { 0 } { 0 } $ , 求 和"
    assert as_line("a __label__math\r\nb</s>") == "a _ _ label _ _ math b < / s >"


def spelled_out(text: str) -> str:
    """`as_line` step by step, as its description says."""
    text = text.lower()
    text = re.sub(r"[$^_{}()\[\]=+\-*/<>|,.;:!?\"'&#%~@`]", r" \g<0> ", text).replace("\\", " \\")
    text = re.sub(f"[{UNSPACED}]", r" \g<0> ", re.sub(r"\d+", " 0 ", text))
    return " ".join(text.split())


@given(strategies.text(strategies.sampled_from(" \t\n\x0b\x85\u3000$\\{}_^-09٣aBΣİ求かñ\ud800")) | strategies.text())
def test_a_line_is_the_same_as_one_made_symbol_by_symbol(text: str) -> None:
    assert as_line(text) == spelled_out(text)


def test_examples_are_mixed_and_complete_in_any_number_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [("p" * number, True) for number in range(1, 101)] + [("n" * number, False) for number in range(1, 101)]
    for limit in (1000, 30):
        monkeypatch.setattr("mathquarry.data.mine.classify.classifier._LINES_IN_MEMORY", limit)
        write_examples(tmp_path / "e.txt", examples, 200, seed=1)
        lines = (tmp_path / "e.txt").read_text(encoding="utf-8").splitlines()
        assert sorted(lines) == sorted(f"__label__{'math' if positive else 'other'} {text}" for text, positive in examples)
        first_half = sum("__label__math" in line for line in lines[:100])
        assert 30 < first_half < 70
        assert [path.name for path in tmp_path.iterdir()] == ["e.txt"]


def test_scores_of_no_texts_and_of_empty_texts(tmp_path: Path) -> None:
    scorer = Classifier(trained(tmp_path) / "small.bin")
    assert scorer.score([]).shape == (0,)
    assert np.isfinite(scorer.score(["", "\n \t"])).all()
    assert scorer.score(["x"]).dtype == np.float32


def test_diverging_training_names_the_learning_rate(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="learning_rate"):
        trained(tmp_path, CONFIG.model_copy(update={"learning_rate": 1e9}))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_model_cut_short_by_a_full_disk_is_refused(share: float, tmp_path: Path) -> None:
    full = (trained(tmp_path) / "full.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(full[: int(len(full) * share)])
    with pytest.raises(MathQuarryError, match=r"cut\.bin"):
        collapse(tmp_path / "cut.bin", tmp_path / "out.bin")


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.bin").write_bytes(b"nonsense" * 50)
    with pytest.raises(MathQuarryError, match=r"bad\.bin"):
        Classifier(tmp_path / "bad.bin")
    with pytest.raises(MathQuarryError, match=r"bad\.bin"):
        collapse(tmp_path / "bad.bin", tmp_path / "out.bin")
    (tmp_path / "short.bin").write_bytes(b"x")
    with pytest.raises(MathQuarryError, match=r"short\.bin"):
        collapse(tmp_path / "short.bin", tmp_path / "out.bin")
    assert not (tmp_path / "out.bin").exists()
