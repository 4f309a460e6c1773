"""Pairs of answers of every kind, written by hand: a gold answer, another, and whether they mean the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mathquarry.data.grade.checker import Checker
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.problems import math

PAIRS = [
    (r"1000", r"1 000", True),
    (r"1000.99", r"1000,99", True),
    (r"1,22", r"1.22", True),
    (r"0,111", r"0.111", True),
    (r"0.4", r".4", True),
    (r"1000.99", r"$1,000.99", True),
    (r"1000.99", r"1,000.99$", True),
    (r"1000.99", r"1,000.99€", True),
    (r"10/9", r"\frac{10}{9}", True),
    (r"[0,9)", r"[0,1)", False),
    (r"(0,9)", r"[0,9)", False),
    (r"1", r"-[0,1)", False),
    (r"1/3", r"\frac13", True),
    (r"1", r"\frac3{3}", True),
    (r"\sqrt{3}", r"\sqrt3", True),
    (r"1/3", r"\boxed{\frac{1}{3}}", True),
    (r"1/3", r"\frac{1}{3} \textbf{meters}", True),
    (r"28\%", r"28 pct", True),
    (r"28\%", r"28 percent", True),
    (r"28\%", r"28 percentage", True),
    (r"28\%", r"28", True),
    (r"0.28", r"28", False),
    (r"28", r"28/100", False),
    (r"2-2p", r"2(1-p)", True),
    (r"12\text{ and }13", r"12 and 13", True),
    (r"12\text{ and }13", r"12, 13", True),
    (r"(3, \frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)", True),
    (r"15\mbox{ cm}^2", r"15", True),
    (r"15\mbox{ cm}^2", r"15 cm²", True),
    (r"15\mbox{ cm}^2", r"15 cm^3", False),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}", True),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2,1+\sqrt5,1-\sqrt5\}", True),
    (r"f(2) < f(1) < f(4)", r"f(4)>f(1)>f(2)", True),
    (r"f(2) < f(1) < f(4)", r"f(1) < f(2) < f(4)", False),
    (r"2 \sin b \cos a", r"2\cos a\sin b", True),
    (r"2 \sin b \cos a", r"2\cos b\sin a", False),
    (r"\frac{\pi r}{h+r}", r"\pi\cdot\frac{r}{r+h}", True),
    (
        r"[-1, -\frac{1}{2}) \cup (-\frac{1}{2}, 0) \cup (0, 1) \cup (1, \infty)",
        r"[-1, -\tfrac12) \cup (-\tfrac12, 0) \cup (0, 1) \cup (1, \infty)",
        True,
    ),
    (r"\sqrt{2}+\sqrt{5}", r"\sqrt 2+\sqrt 5", True),
    (r"\frac{9}{4}\pi", r"\frac94\pi", True),
    (r"\{-1\} \cup [0,7)", r"x\in\{-1\} \cup [0,7)", True),
    (r"x >= 5", r"x \geq 5", True),
    (r"x < 3", r"x \lt 3", True),
    (r"x != 3", r"x \neq 3", True),
    (r"x > 5", r"x < 5", False),
    (r"x \geq 5", r"x \leq 5", False),
    (r"x \leq 5", r"5 \geq x", True),
    (r"x = 11", r"x = 5+5+1 = 7 =11", True),
    (r"7 = 11a+c", r"11a+c", False),
    (r"x = 1/3", r"x = 5+5+1 = 1/3 \approx 11", True),
    (r"11", r"x=11", True),
    (r"11", r"x\approx11", True),
    (r"1/3", r"x=1/3\approx1.3", True),
    (r"x < 1", r"-x > -1", True),
    (r"x < 1", r"x > -1", False),
    (r"a +3z = 0", r"0", False),
    (r"2x + z = 1", r"1", False),
    (r"a^2 + b = 0", r"0", False),
    (r"z = 1 + 1 = 2", r"z = 3+3 = 2", True),
    (r"2x+4y-3=0", r"y=-\frac{1}{2}x+\frac{3}{4}", True),
    (r"x^2/4 + y^2/3 = 1", r"x^2/16 + y^2/12 = 1/4", True),
    (r"\begin{bmatrix}0 & 0 \\0 & 0\end{bmatrix}", r"\begin{pmatrix}0 & 0 \\0 & 0\end{pmatrix}", True),
    (
        r"\begin{pmatrix}6 & 8 \\ 10 & 12\end{pmatrix}",
        r"\begin{pmatrix}1 & 2 \\ 3 & 4\end{pmatrix} + \begin{pmatrix}5 & 6 \\ 7 & 8\end{pmatrix}",
        True,
    ),
    (
        r"\begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix}",
        r"\begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix} \begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix}",
        True,
    ),
    (r"\begin{pmatrix}1 & 2 \\ 3 & 4\end{pmatrix}", r"\begin{pmatrix}1 & 2 \\ 3 & 5\end{pmatrix}", False),
    (r"\frac{1}{12}", r"0.0833333333333333", True),
    (r"(1,\frac{9}{2})", r"(1,4.5)", True),
    (r"\frac{x+2}{7}", r"\frac{x}{7}+\frac{2}{7}", True),
    (r"\tan^2(y)+1", r"\sec^2(y)", True),
    (r"\begin{pmatrix}-\frac{7}{4}&-2\\4&\frac{1}{4}\\\end{pmatrix}", r"\begin{pmatrix}-\frac{7}{4}&-2\\4&\frac{1}{4}\end{pmatrix}", True),
    (
        r"\begin{pmatrix}\frac{1}{3\sqrt[3]{x}^2}&0&0\\0&1&0\\-\sin(x)&0&0\\\end{pmatrix}",
        r"\begin{pmatrix}\frac{1}{3x^{2/3}}&0&0\\0&1&0\\-\sin(x)&0&0\end{pmatrix}",
        True,
    ),
    (r"34x+45y-20z+100=0", r"-34x-45y+20z-100=0", True),
    (r"(\begin{pmatrix}\frac{1}{3}\\ \frac{1}{5} \end{pmatrix})", r"\begin{pmatrix}\frac13\\0.2 \end{pmatrix}", True),
    (r"\frac{\sqrt{\sqrt{11}+\sqrt{194}}}{15+2\sqrt{33}}", r"\frac{\sqrt{\sqrt{11}+\sqrt{194}}}{2\sqrt{33}+15}", True),
    (r"(a+5)(b+2)", r"(+5)(b+2)", False),
    (r"2", r"\frac{1+\sqrt{5}}{2}", False),
    (r"x+2n+1", r"x+1", False),
    (r"100%", r"100\%", True),
    (r"16386.20", r"\$16,\!386.20", True),
    (r"10455", r"10,455", True),
    (r"32349", r"32,\! 349", True),
    (r"32349", r"32, 349", False),
    (r"14916", r"14 {, }916", True),
    (r"(2,12) \cup (12,102)", r"x \in (2, 12) \cup (12, 102)", True),
    (r"\text{E}", r"E", True),
    (r"\text{C}", r"\text{(C)}", True),
    (r"-2 \le x \le 7", r"x \in [-2,7]", True),
    (r"x \in [-2,7]", r"-2 \le x \le 7", True),
    (r"4.123105625617661", r"\sqrt{17}", True),
    (r"4", r"4\sqrt{2}", False),
    (r"\frac{1}{3}", r"\frac{1}{3}.", True),
    (r"\frac{1}{3}", r"\frac{1}{3},", True),
    (r"2", r"2^{10}.", False),
    (r"1, 2, 3", r"1, 2, 3, ...", False),
    (r"n=1, 2, 3", r"n=1, 2, 3", True),
    (r"n=2, 3, 4", r"n=1, 2, 3", False),
    (r"D = (0, 1)", r"D = (0, 1.5)", False),
    (r"19, 46, and 82", r"19, 46, \text{ and } 82", True),
    (r"\pm 2021", r"2021", False),
    (r"\pm 2021", r"{-2021, 2021}", True),
    (r"12:00", r"1:00", False),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}", False),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", False),
    (r"40/9", r"4 4/9", True),
    (r"4", r"4 4/9", False),
    (r"-40/9", r"-4 4/9", True),
    (r"9004/9", r"1 000 4/9", True),
    (r"139/90", r"11/10 4/9", False),
    (r"5", r"5.00", True),
    (r"0.66667", r"2/3", True),
    (r"2/3", r"0.66667", True),
    (r"2/3", r"0.66666", False),
    (r"2/3", r"0.667", False),
    (r"\sqrt 3", r"1.7320508", False),
    (r"1.7320508", r"\sqrt3", True),
    (r"1/200!", r"1/201!", False),
    (r"2^{-1100}", r"3^{-1100}", False),
    (r"\text{yes}", r"Yes", True),
    (r"\text{no}", r"on", False),
    (r"i(2-i)", r"1+2i", True),
    (r"1+2i", r"i(2-i)", True),
    (r"1-2i", r"i(2-i)", False),
    (r"3+4j", r"3+4i", False),
    (r"2^{10}", r"1024", True),
    (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt2}{2}", True),
    (r"|x|", r"x", False),
    (r"x", r"\sqrt{x^2}", False),
    (r"\log_2 8", r"3", True),
    (r"\ln 8", r"3\ln 2", True),
    (r"\log 8", r"\ln 8", False),
    (r"x=1,y=2", r"y=2, x=1", True),
    (r"x=1,y=2", r"y=1, x=2", False),
    (r"(1,2)", r"x=1, y=2", True),
    (r"(1,2)", r"y=1, x=2", False),
    (r"(1,2)", r"(x,y)=(1,2)", True),
    (r"(1,2)", r"(x,y)=(2,1)", False),
    (r"x=1,y=2", r"(1,2)", True),
    (r"\{1,2\}", r"x\in\{1,2\}", True),
    (r"1,2", r"x_1=1, x_2=2", True),
    (r"1,2", r"x=1 \text{ or } x=2", True),
    (r"1,2", r"x=1 or 2", True),
    (r"x<1 \text{ or } x>2", r"(-\infty,1)\cup(2,\infty)", True),
    (r"(-\infty,1)\cup(2,\infty)", r"x<1 \lor x>2", True),
    (r"(-\infty,1)\cup(2,\infty)", r"x<1 或 x>2", True),
    (r"(1,2)", r"x>1 \text{ and } x<2", True),
    (r"(-\infty,2)\cup(2,\infty)", r"x\neq 2", True),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\setminus\{2\}", True),
    (r"(-\infty,\infty)", r"\mathbb{R}", True),
    (r"(0,\infty)", r"\{x \mid x>0\}", True),
    (r"(0,\infty)", r"\{x \in \mathbb{R} : x>0\}", True),
    (r"(0,\infty)", r"[0,\infty)", False),
    (r"[3,\infty)", r"3\le y", True),
    (r"[3,\infty)", r"y>3", False),
    (r"x>3", r"y>3", False),
    (r"(0,+\infty)", r"(0,\infty)", True),
    (r"\emptyset", r"\varnothing", True),
    (r"\emptyset", r"\text{no solution}", True),
    (r"\emptyset", r"\{\}", True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"(1,2)", True),
    (r"(1,2)", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}", False),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"(2,1)", False),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\langle 1,2\rangle", True),
    (r"\begin{pmatrix} 1/2 \\ 3 \end{pmatrix}", r"\frac12\begin{pmatrix} 1 \\ 6 \end{pmatrix}", True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"1, 2", False),
    (r"\begin{vmatrix} 1 & 2 \\ 3 & 4\end{vmatrix}", r"-2", True),
    (r"5\text{ dozen}", r"60", True),
    (r"60", r"5 dozen", True),
    (r"3\text{ million}", r"3000000", True),
    (r"3000000", r"3 \text{ million dollars}", True),
    (r"3", r"3 \text{ million}", False),
    (r"25^\circ\text{C}", r"25", True),
    (r"25^\circ C", r"25^\circ F", False),
    (r"90^\circ", r"\pi/2", False),
    (r"\frac{\pi}{3}", r"\frac{\pi}{3}\text{ radians}", True),
    (r"3.54e-07", r"3.54 \times 10^{-7}", True),
    (r"3.54e-07", r"3.54\cdot 10^{-8}", False),
    (r"3.54e-07", r"0.000000354", True),
    (r"½", r"0.5", True),
    (r"x^2", r"x²", True),
    (r"x^2", r"x^3", False),
    (r"42", "42\\\\", True),
    (r"42", "42\\", True),
    (r"\frac{5}{2}", r"2又1/2", True),
    (r"\frac{5}{2}", r"2\frac12", True),
    (r"5", r"2\frac12", False),
    (r"1", r"2\cdot\frac12", True),
    (r"\text{dog bites man}", r"Dog bites man.", True),
    (r"\text{Monday}", r"\text{Tuesday}", False),
    (r"\text{June 20}", r"June 20", True),
    (r"\text{June 20}", r"June 21", False),
    (r"\text{4:30 p.m.}", r"4:30 PM", True),
    (r"\text{4:30 p.m.}", r"4:30", True),
    (r"\text{4:30 p.m.}", r"4:30 a.m.", False),
    (r"\text{4:30 p.m.}", r"4:03 p.m.", False),
    (r"\angle ABC", r"\angle CBA", False),
    (r"\triangle ABC", r"ABC", False),
    (r"AB=9, CD=4", r"CD=4, AB=9", True),
    (r"AB=9, CD=4", r"AB=4, CD=9", False),
    (r"\mbox{four}", r"4", True),
    (r"\text{two lines}", r"two lines", True),
    (r"\text{ellipse}", r"an ellipse", True),
    (r"\text{A5}_{11}", r"A5_{11}", True),
    (r"\text{A5}_{11}", r"5A_{11}", False),
    (r"2516_8", r"2516", True),
    (r"3:4", r"3/4", True),
    (r"3:4", r"4:3", False),
    (r"x^2+C", r"x^2 + C", True),
    (r"y=\pm\sqrt{3}x", r"y=\sqrt3x \text{ or } y=-\sqrt3 x", True),
    (r"y=2x+1", r"f(x)=2x+1", True),
    (r"y=2x+1", r"2x-y+1=0", True),
    (r"y=2x+1", r"2x+y+1=0", False),
    (r"x=5", r"y=5", False),
    (r"\sqrt{-4}", r"2i", True),
    (r"e^{i\pi}", r"-1", True),
    (r"10 m", r"10\text{ m}", True),
    (r"10\text{ m}", r"10 m", True),
    (r"5\text{ feet}", r"5 ft", True),
    (r"\$5", r"5 dollars", True),
    (r"\$5", r"5 USD", True),
    (r"\$5", r"5€", False),
    (r"1,234.5", r"1234.5", True),
    (r"1.234", r"1234", False),
    (r"1,234", r"1.234", False),
    (r"(1,234)", r"1234", False),
    (r"100, 200, 300", r"100,200,300", True),
    (r"3.5", r"3,5", True),
    (r"3, 5", r"3.5", False),
    (r"100", r"1,00", False),
    (r"12", r"1,2", False),
    (r"\frac{2}{3}", r"0.\overline{6}", True),
    (r"\frac{2}{3}", r"0.\dot{6}", True),
    (r"\frac{2}{3}", r"0.666...", True),
    (r"\frac{2}{3}", r"0.\overline{66}", True),
    (r"\frac{2}{3}", r"0.\overline{67}", False),
    (r"\frac{1}{7}", r"0.\overline{142857}", True),
    (r"2\sqrt{3}", r"\sqrt{12}", True),
    (r"2\sqrt{3}", r"3\sqrt{2}", False),
    (r"\sqrt[3]{2}", r"2^{1/3}", True),
    (r"n!", r"n(n-1)!", True),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}", True),
    (r"\binom{10}{3}", r"120", True),
    (r"2^{n+1}", r"2\cdot2^n", True),
    (r"2^{n+1}", r"2^n+1", False),
    (r"\frac{a}{A}", r"1", False),
    (r"x+y", r"x+Y", False),
    (r"\cos x", r"\cos X", False),
    (r"42", r"\text{42}", True),
    (r"(x-1)(x+2)", r"x^2+x-2", True),
    (r"(x-1)(x+2)", r"x^2-x-2", False),
    (r"\frac{x}{y}", r"\frac{y}{x}", False),
    (r"\text{(A)}", r"A", True),
    (r"\text{(A)}", r"B", False),
    (r"A", r"\text{A}", True),
    (r"\text{A, B}", r"B, A", True),
    (r"\text{A, B}", r"A", False),
    (r"6\frac{1}{6}\text{ feet}", r"\frac{37}{6}", True),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^\circ", True),
    (r"18\text{ ways.}", r"18 ways", True),
    (r"20\text{ sq units}", r"20 square units", True),
    (r"-12 \text{ or } -30", r"-30, -12", True),
    (r"\{(1,2),(3,4)\}", r"(3,4), (1,2)", True),
    (r"\{(1,2),(3,4)\}", r"(2,1), (3,4)", False),
    (r"(-2,1),(3,4)", r"(x,y) = (-2,1), (3,4)", True),
    (r"三角形", r"三角形", True),
    (r"三角形", r"正方形", False),
    (r"40%", r"40％", True),
    (r"40%", r"0.4", True),
    (r"40%", r"2/5", True),
    (r"40%", r"百分之40", True),
    (r"40%", r"4/5", False),
    (r"18", r"18个", True),
    (r"18", r"１８", True),
    (r"18", r"答：18个苹果", True),
    (r"18", r"x=18千克", True),
    (r"a^{2}-b^{2}", r"(a+b)(a-b)", True),
    (r"-x", r"x", False),
    (r"x - y", r"y - x", False),
    (r"\frac{-1}{2}", r"-\frac{1}{2}", True),
    (r"\frac{-1}{-2}", r"\frac12", True),
    (r"+5", r"5", True),
    (r"--5", r"5", True),
    (r"\sin^2 x", r"(\sin x)^2", True),
    (r"\sin^{-1} x", r"\arcsin x", True),
    (r"\sin 30^\circ", r"\frac12", True),
    (r"\arcsin{1.3 \sin{\theta_w}}", r"\arcsin(1.3\sin\theta_w)", True),
    (r"x_{0} \cos (\omega t)+$ $\dot{x}_{0} \sin (\omega t) / \omega", r"x_0\cos\omega t+\frac{\dot{x}_0}{\omega}\sin\omega t", True),
    (r"m \frac{d v}{d t}+b v=f", r"f = m\frac{dv}{dt}+bv", True),
    (r"\frac{2ab}{a^2 + b^2}", r"\frac{2ba}{b^2+a^2}", True),
    (r"xy", r"yx", True),
    (r"\overline{CD}", r"CD", False),
    (r"\frac{1}{7}\triangle ABC", r"\frac{\triangle ABC}{7}", True),
]

OUTPUTS = [
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\boxed{\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}}", False),
    (r"\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix}", r"\boxed{\begin{pmatrix}-2-14-7\end{pmatrix}}", False),
    (r"\begin{pmatrix} 7 \\ 5 \end{pmatrix}", r"\boxed{\begin{pmatrix}7\\5\end{pmatrix}}", True),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", r"\boxed{\begin{cases}x=1\\y=2\end{cases}}", True),
    (r"\text{CBAD}", r"\boxed{\text{ABCD}}", False),
    (r"\text{HHT}", r"\boxed{\text{THH}}", False),
    (r"\text{dog bites man}", r"\boxed{\text{man bites dog}}", False),
    (r"\angle ABC", r"\boxed{\angle ACB}", False),
    (r"\pi(R^2-r^2)", r"\boxed{\pi(r^2-R^2)}", False),
    (r"R-r", r"\boxed{0}", False),
    (r"\frac{a}{A}", r"\boxed{1}", False),
    (r"2^{-1100}", r"\boxed{3^{-1100}}", False),
    (r"1-\frac{1}{2^{100}}", r"\boxed{1-\frac{1}{2^{101}}}", False),
    (r"\frac12\left(1+\frac{1}{3^{50}}\right)", r"\boxed{\frac12\left(1-\frac{1}{3^{50}}\right)}", False),
    (r"\sqrt{3}", r"\boxed{1.7320508}", False),
    (r"24\pi", r"\boxed{24\pi \text{ cm}^3}", True),
    (r"164 \pi \mbox{ square feet}", r"\boxed{164\pi}", True),
    (r"\frac{3}{4}\pi\text{ inches}", r"\boxed{\frac{3\pi}{4}}", True),
    (r"2\pi", r"\boxed{2\pi\text{ rad}}", True),
    (r"6x", r"\boxed{6x \text{ dollars}}", True),
    (r"25", r"\boxed{25^\circ\text{C}}", True),
    (r"12.5", r"\boxed{\$12.50\text{ per hour}}", True),
    (r"5", r"\boxed{5\text{ dozen}}", False),
    (r"42", r"So \boxed{42}. Remember to put the final answer in \boxed{}.", True),
    (r"42", r"So \boxed 42.", True),
    (r"42", r"So \fbox{42}.", True),
    (r"2", r"So \boxed{1} or \boxed{2}", False),
    (r"1,2", r"$x=\boxed{1}$ or $x=\boxed{2}$", True),
    (r"[3,\infty)", r"\boxed{x\ge 3}", True),
    (r"(0,7.5)", r"\boxed{7.5>x>0}", True),
    (r"[1,2]", r"\boxed{1\leqslant x\leqslant 2}", True),
    (r"(1,2]", r"\boxed{1<\theta\le2}", True),
    (r"1-\frac{1}{e}", r"\boxed{1-\frac{1}{\mathrm{e}}}", True),
    (r"\frac{1}{\sqrt{n}}", r"\boxed{\sqrt{1/n}}", True),
    (r"11,\! 111,\! 111,\! 100", r"\boxed{11111111100}", True),
    (r"61", r"\boxed{**61**}", True),
    (r"\frac{5}{2}", r"\boxed{2又2分之1}", True),
    (r"15", r"\boxed{15元/千克}", True),
    (r"2\sqrt{3}", r"\boxed{2√3}", True),
    (r"\frac{1}{3}", r"\boxed{0.\overline{3}}", True),
    (r"1,2", r"\boxed{1; 2}", True),
]
"""Completions that an earlier checker graded wrongly."""


@pytest.mark.parametrize(("gold", "given", "same"), PAIRS)
def test_two_answers_are_the_same_or_not(gold: str, given: str, same: bool) -> None:
    with Checker(GradeConfig()) as checker:
        [verdict] = checker.grade_answers([(given, gold)])
        assert verdict.correct is same, verdict
        assert checker._workers == [], "no such pair needs algebra"


@pytest.mark.parametrize(("gold", "output", "right"), OUTPUTS)
def test_an_output_is_right_or_not(gold: str, output: str, right: bool) -> None:
    with Checker(GradeConfig()) as checker:
        assert checker.grade(output, gold).correct is right


def test_ends_and_coefficients_of_several_kinds_are_compared() -> None:
    with Checker(GradeConfig()) as checker:
        assert checker.same(r"(1,\sqrt{2})", r"1<x<\sqrt2")
        assert checker.same(r"(1,\sqrt{2})\cup(\pi,4]", r"(\pi,4]\cup(1,\sqrt2)")
        assert not checker.same(r"(1,\sqrt{2})", r"1<x<\sqrt3")
        assert checker.same(r"x>\sqrt2", r"2x>\sqrt8")
        assert checker.same("y=3x+1", r"\pi y=3\pi x+\pi")
        assert not checker.same("y = 3x^2", r"y = \pi 3x^2")
        assert checker.grade_answers([(r"\sqrt{9.1}", "3.0")], [0.01])[0].correct
        assert not checker.grade_answers([(r"\sqrt{10}", "3.0")], [0.01])[0].correct


def respelled(gold: str) -> list[str]:
    """The same answer in other spellings."""
    found = [f" {gold} .", f"${gold}$", f"**{gold}**", gold.replace(r"\frac", r"\dfrac"), f"{gold}\\"]
    if not re.search(r"[\[\]]|left", gold):
        found.append(gold.replace("(", r"\left(").replace(")", r"\right)"))
    if gold.startswith(r"\begin"):
        found += [gold.replace(" ", ""), gold.replace("pmatrix", "bmatrix")]
    if re.fullmatch(r"-?\d+", gold):
        found += [f"{gold}.0", f"x={gold}", rf"\frac{{{2 * int(gold)}}}{{2}}", f"{int(gold):,}", f"{gold}个"]
    if re.fullmatch(r"\\text\{[A-Za-z ]{3,}\}", gold):
        found.append(gold[6:-1].upper())
    return found


def spoilt(gold: str) -> list[str]:
    """Wrong answers that look like it."""
    found = []
    if (digits := list(re.finditer(r"(?<![\d.,])[1-9](?![\d.,])", gold))) and "!" not in gold:
        place = digits[-1].start()
        found.append(f"{gold[:place]}{int(gold[place]) % 9 + 1}{gold[place + 1 :]}")
    if re.fullmatch(r"-?(\d+|\\frac\{\d+\}\{\d+\})", gold) and gold != "0":
        found += [gold[1:] if gold.startswith("-") else f"-{gold}", f"1{gold}" if gold.isdigit() else f"({gold})^2+1", f"({gold},{gold})"]
    if re.fullmatch(r"\\text\{[A-Za-z ]{3,}\}", gold) and gold[6:-1] != gold[-2:5:-1]:
        found.append(rf"\text{{{gold[-2:5:-1]}}}")
    return found


@pytest.mark.parametrize(
    ("gold", "given"),
    [("x+1", "2(1,2)"), ("x", "x^{(1,2)}"), ("(a,b)+1", "a"), ("x", "|{1,2}|"), ("x", "1=2(3,4)"), ("x", r"\begin{pmatrix}y!")],
)
def test_answers_of_two_kinds_are_different_and_no_error(gold: str, given: str) -> None:
    with Checker(GradeConfig()) as checker:
        assert not checker.same(gold, given)


@pytest.mark.slow
def test_gold_answers_of_math_are_known_in_other_spellings_and_not_when_spoilt(shared_data: Path) -> None:
    names = ("math-train", "math-test")
    golds = sorted({p.answer for name in names for p in math.load(str(shared_data / "problems" / f"{name}.jsonl.gz")) if p.answer})
    harmless = [(answer, gold) for gold in golds for answer in respelled(gold)]
    harmful = [(answer, gold) for gold in golds for answer in spoilt(gold)]
    with Checker(GradeConfig()) as checker:
        missed = [pair for pair, verdict in zip(harmless, checker.grade_answers(harmless), strict=True) if not verdict.correct]
        taken = [pair for pair, verdict in zip(harmful, checker.grade_answers(harmful), strict=True) if verdict.correct]
        assert checker._workers == []
    print(f"{len(harmless) - len(missed)} of {len(harmless)} harmless, {len(taken)} of {len(harmful)} harmful accepted")
    assert len(missed) <= 0.005 * len(harmless), missed[:20]
    assert len(taken) <= 0.001 * len(harmful), taken[:20]
