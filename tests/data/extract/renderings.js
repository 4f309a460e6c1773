// Writes renderings.json: what renderers make of some formulas, without glyph outlines. Then: gzip -9n renderings.json
//   npm install katex@0.19.1 temml@0.13.5 mathjax-full@3.2.2 && node renderings.js
const fs = require("fs");
const katex = require("katex");
const temml = require("temml");
const { mathjax } = require("mathjax-full/js/mathjax.js");
const { TeX } = require("mathjax-full/js/input/tex.js");
const { CHTML } = require("mathjax-full/js/output/chtml.js");
const { SVG } = require("mathjax-full/js/output/svg.js");
const { liteAdaptor } = require("mathjax-full/js/adaptors/liteAdaptor.js");
const { RegisterHTMLHandler } = require("mathjax-full/js/handlers/html.js");
const { SerializedMmlVisitor } = require("mathjax-full/js/core/MmlTree/SerializedMmlVisitor.js");
const { STATE } = require("mathjax-full/js/core/MathItem.js");
require("mathjax-full/js/input/tex/AllPackages.js");

const adaptor = liteAdaptor();
RegisterHTMLHandler(adaptor);
const input = () => new TeX({ packages: ["base", "ams"] });
const drawn = (tex, output) =>
  adaptor.outerHTML(mathjax.document("", { InputJax: input(), OutputJax: output }).convert(tex, { display: false }));
const formulas = [
  "x+1",
  "x^2",
  "x_i",
  "x_i^2",
  "\\frac{a}{b+1}",
  "\\sqrt{x+1}",
  "\\sqrt[3]{x}",
  "\\sum_{n=1}^{\\infty} \\frac{1}{n^2}",
  "\\int_0^1 f(x)\\,dx",
  "\\alpha+\\beta \\le \\gamma",
  "\\sin x",
  "\\lim_{x\\to 0} x",
  "\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}",
  "\\hat{x}",
  "\\vec{v}",
  "\\mathbb{R}^n",
  "f'(x)",
  "\\overline{AB}",
  "(a+b)^2",
  "\\{1,2\\}",
  "x \\in A \\cup B",
  "\\left(\\frac{1}{2}\\right)^{n+1}",
  "\\text{if } x>0",
  "\\binom{n}{k}",
  "e^{-x^2}",
  "\\mathcal{F}",
  "\\max_i a_i",
  "a_{ij}b^{kl}",
  "2^{10}",
  "\\frac{\\partial f}{\\partial x}",
];
const rows = formulas.map((tex) => ({
  tex,
  katex: katex.renderToString(tex),
  katex_mathml: katex.renderToString(tex, { output: "mathml" }),
  katex_html: katex.renderToString(tex, { output: "html" }),
  temml: temml.renderToString(tex),
  temml_noann: temml.renderToString(tex, { annotate: false }),
  mml: new SerializedMmlVisitor().visitTree(mathjax.document("", { InputJax: input() }).convert(tex, { end: STATE.CONVERT })),
  chtml: drawn(tex, new CHTML({ fontURL: "" })),
  svg: drawn(tex, new SVG({ fontCache: "local" })),
}));
const bare = (html) => html.replace(/<defs>[^]*?<\/defs>/g, "").replace(/ d="[^"]*"/g, "");
fs.writeFileSync("renderings.json", JSON.stringify(rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, html]) => [name, name === "tex" ? html : bare(html)]))), null, 0));
