"use strict";
// Draws the charts in the colours of the current theme, and again when the theme changes.
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

  const draw = () => {
    for (const [id, spec] of Object.entries(charts)) {
      const place = document.getElementById(id);
      const given = themed(spec.layout);
      const layout = {
        ...given,
        xaxis: { ...axis(given.xaxis || {}), showgrid: false },
        yaxis: axis(given.yaxis || {}),
        font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("soft") },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        margin: { l: 46, r: 10, t: 26, b: 40 },
        legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { color: colour("text") } },
        hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text") } },
      };
      // An annotation at the top would lie on the legend.
      if (given.showlegend && (given.annotations || []).length) layout.legend.y = 1.1;
      Plotly.react(place, themed(spec.data), layout, { displayModeBar: false });
    }
  };

  draw();
  const resized = new ResizeObserver((entries) => entries.forEach((entry) => Plotly.Plots.resize(entry.target)));
  Object.keys(charts).forEach((id) => resized.observe(document.getElementById(id)));
  dark.addEventListener("change", draw);
})();
