"use strict";
// Draws each chart when it comes near the window, in the colours of the current theme, and again when the theme changes.
(() => {
  const charts = JSON.parse(document.getElementById("chart-data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  // A colour of the style sheet is written "@name".
  const themed = (value) => {
    if (typeof value === "string") return /^@[a-z0-9]+$/.test(value) ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item)]));
    return value;
  };

  const axis = (given) => ({
    gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true, ticks: "", fixedrange: true,
    ...given, title: { ...(given.title || {}), font: { size: 12, color: colour("soft") }, standoff: 8 },
  });

  // Paper has no window to fit: the width of a column, or of the page, in CSS pixels of A4 with the style sheet's margins.
  let paper = false;
  const size = (place) => {
    if (!paper) return {};
    if (place.closest(".half")) return { width: 312, height: 210 };
    return { width: 664, height: place.closest(".high") ? 400 : 250 };
  };

  const draw = (place) => {
    const spec = charts[place.id], given = themed(spec.layout);
    const layout = {
      ...given,
      xaxis: { ...axis(given.xaxis || {}), showgrid: false },
      ...Object.fromEntries(Object.entries({ yaxis: {}, ...given }).filter(([name]) => /^yaxis\d*$/.test(name)).map(([name, item]) => [name, axis(item)])),
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("soft") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      ...size(place),
      margin: { l: 46, r: 10, t: 26, b: 40 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { color: colour("text") } },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text") } },
    };
    // An annotation at the top would lie on the legend.
    if (given.showlegend && (given.annotations || []).length) layout.legend.y = 1.1;
    Plotly.react(place, themed(spec.data), layout, { displayModeBar: false });
  };

  // Tables that can be searched, and sorted by a click on a heading: numbers from the greatest, words from A, the other way on a second click.
  const search = (block) => {
    const table = block.querySelector("table"), field = block.querySelector("input"), tally = block.querySelector("output");
    const body = table.tBodies[0], rows = [...body.rows];
    const words = rows.map((row) => row.textContent.toLowerCase());
    const value = (row, column) => {
      const cell = row.cells[column], text = (cell.querySelector("summary") || cell).textContent.trim();
      const number = "v" in cell.dataset ? Number(cell.dataset.v) : cell.classList.contains("n") ? parseFloat(text.replace(/,/g, "")) : NaN;
      return Number.isNaN(number) ? text : number;
    };
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row, index) => { row.hidden = !wanted.every((word) => words[index].includes(word)); });
      tally.textContent = wanted.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const numbers = rows.some((row) => typeof value(row, column) === "number");
      const falling = heading.ariaSort ? heading.ariaSort !== "descending" : numbers;
      headings.forEach((other) => { other.ariaSort = null; });
      heading.ariaSort = falling ? "descending" : "ascending";
      const order = (a, b) => (numbers ? (typeof a === "number" ? a : -1) - (typeof b === "number" ? b : -1) : String(a).localeCompare(String(b)));
      body.append(...[...rows].sort((a, b) => (falling ? -1 : 1) * order(value(a, column), value(b, column))));
    }));
  };
  document.querySelectorAll(".block.table").forEach((block) => block.querySelector(".sortable") && search(block));

  const waiting = new Set(Object.keys(charts).map((id) => document.getElementById(id))), drawn = new Set();
  const resized = new ResizeObserver((entries) => paper || entries.forEach((entry) => Plotly.Plots.resize(entry.target)));
  const near = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting && show(entry.target)), { rootMargin: "100%" });
  const show = (place) => {
    if (!waiting.delete(place)) return;
    near.unobserve(place);
    draw(place);
    drawn.add(place);
    resized.observe(place);
  };
  waiting.forEach((place) => near.observe(place));
  const print = (begins) => {
    paper = begins;
    document.documentElement.classList.toggle("paper", begins); // light, whatever the theme
    [...waiting].forEach(show);
    drawn.forEach(draw);
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  dark.addEventListener("change", () => drawn.forEach(draw));
})();
