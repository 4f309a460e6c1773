"""Tables of formulas: equations below each other, and the labels of their rows."""

from __future__ import annotations

import pytest

from mathquarry.data.extract.html import extract


def tex(table: str, attributes: str = "") -> str:
    """The extracted text of a displayed table."""
    math = f'<math display="block"><mtable {attributes}>{table}</mtable></math>'
    return (
        extract(f"<html><body><main><p>We look at the following equations.</p>{math}</main></body></html>")
        .text.partition("$$")[2]
        .strip("$")
    )


def row(*cells: str, label: str = "") -> str:
    inner = "".join(f"<mtd>{cell}</mtd>" for cell in cells)
    return f"<mlabeledtr><mtd>{label}</mtd>{inner}</mlabeledtr>" if label else f"<mtr>{inner}</mtr>"


A, B, EQUAL = "<mi>a</mi>", "<mi>b</mi>", "<mo>=</mo>"
SIDES = row(A, f"{EQUAL}{B}"), row("", f"{EQUAL}<mn>2</mn>")
EQNARRAY = row(A, EQUAL, B), row("", EQUAL, "<mn>2</mn>")


@pytest.mark.parametrize("attributes", ['columnalign="right left"', 'columnalign="right left right left"', 'columnalign=" RIGHT  left "'])
def test_sides_that_meet_at_the_relation_are_aligned(attributes: str) -> None:
    assert tex("".join(SIDES), attributes) == r"\begin{aligned} a & =b \\ & =2 \end{aligned}"


def test_right_centre_and_left_columns_are_aligned_at_the_relation() -> None:
    assert tex("".join(EQNARRAY), 'columnalign="right center left"') == r"\begin{aligned} a & = b \\ & = 2 \end{aligned}"


def test_alignment_may_stand_in_the_cells() -> None:
    cells = f'<mtr><mtd columnalign="right">{A}</mtd><mtd columnalign="center">{EQUAL}</mtd><mtd columnalign="left">{B}</mtd></mtr>'
    assert tex(cells) == r"\begin{aligned} a & = b \end{aligned}"


def test_pairs_of_sides_stand_beside_each_other() -> None:
    assert tex(row(A, EQUAL, B, B, EQUAL, A), 'columnalign="right center left right center left"') == (
        r"\begin{aligned} a & = b & b & = a \end{aligned}"
    )


@pytest.mark.parametrize(
    "attributes", ["", 'columnalign="center"', 'columnalign="left left"', 'columnalign="left right"', 'columnalign="right"']
)
def test_other_tables_are_matrices(attributes: str) -> None:
    assert tex(row(A, B) + row(B, A), attributes) == r"\begin{matrix} a & b \\ b & a \end{matrix}"


@pytest.mark.parametrize(
    ("label", "tag"),
    [
        ("<mtext>(1)</mtext>", "1"),
        ("<mtext>( 2.1a )</mtext>", "2.1a"),
        ("<mrow><mo>(</mo><mn>3</mn><mo>)</mo></mrow>", "3"),
        ("<mtext>（4）</mtext>", "4"),
        ("<mtext>*</mtext>", "*"),
        ("<mtext>Euler</mtext>", "Euler"),
        ("<mtext>(50%)</mtext>", r"50\%"),
    ],
)
def test_the_label_of_an_equation_is_its_tag(label: str, tag: str) -> None:
    assert tex(row(f"{A}{EQUAL}{B}", label=label)) == rf"a=b \tag{{{tag}}}"


def test_one_label_stands_behind_the_table() -> None:
    table = SIDES[0] + row("", f"{EQUAL}<mn>2</mn>", label="<mtext>(7)</mtext>")
    assert tex(table, 'columnalign="right left"') == r"\begin{aligned} a & =b \\ & =2 \end{aligned} \tag{7}"


def test_several_labels_stand_in_their_rows() -> None:
    table = row(A, f"{EQUAL}{B}", label="<mtext>(7)</mtext>") + row("", f"{EQUAL}<mn>2</mn>", label="<mtext>(8)</mtext>") + SIDES[1]
    assert tex(table, 'columnalign="right left"') == r"\begin{align*} a & =b \tag{7} \\ & =2 \tag{8} \\ & =2 \end{align*}"
    column = row(A, label="<mtext>(1)</mtext>") + row(B, label="<mtext>(2)</mtext>")
    assert tex(column) == r"\begin{gather*} a \tag{1} \\ b \tag{2} \end{gather*}"


def test_a_row_that_is_all_label_keeps_its_content() -> None:
    assert tex(f"<mlabeledtr><mtd>{A}</mtd></mlabeledtr>") == r"\begin{matrix} a \end{matrix}"


def test_labels_and_alignment_of_mathjax_boxes_are_read() -> None:
    def cell(code: str, style: str = "") -> str:
        return f'<mjx-mtd style="{style}"><mjx-mi><mjx-c class="mjx-c{code}"></mjx-c></mjx-mi></mjx-mtd>'

    rows = f"<mjx-mtr>{cell('61', 'text-align: right; padding-right: 0;')}{cell('62', 'text-align: left')}</mjx-mtr>"
    labels = f"<mjx-labels><mjx-itable><mjx-mtr>{cell('31')}</mjx-mtr></mjx-itable></mjx-labels>"
    drawn = f"<mjx-mtable><mjx-table><mjx-itable>{rows}</mjx-itable></mjx-table>{labels}</mjx-mtable>"
    page = f'<main><p>So we have</p><mjx-container display="true"><mjx-math>{drawn}</mjx-math></mjx-container></main>'
    assert r"$$\begin{aligned} a & b \end{aligned} \tag{1}$$" in extract(page).text
