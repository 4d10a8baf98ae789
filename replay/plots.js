"use strict";
// Draws the figures that replay's Python makes. Their colours are names, `@blue`, or `@blue~` for a see-through one: the page's
// style sheet knows the values, so a figure follows the theme. Used by the report and by the live page.
const Plots = (() => {
  const root = document.documentElement;
  const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };

  function colour(name) { return getComputedStyle(root).getPropertyValue("--" + name).trim(); }
  function seeThrough(hex) { return "rgba(" + [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)).join(",") + ",0.22)"; }

  function paint(value) {
    if (typeof value === "string" && /^@[a-z0-9]+~?$/.test(value)) {
      const found = colour(value.slice(1).replace("~", ""));
      return value.endsWith("~") ? seeThrough(found) : found;
    }
    if (Array.isArray(value)) return value.map(paint);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, paint(v)]));
    return value;
  }

  function axis(own) {
    const style = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, automargin: true, showline: true, ticks: "outside", tickcolor: colour("line") };
    return Object.assign(style, own, { title: Object.assign({ standoff: 8, font: { size: 13, color: colour("dim") } }, (own || {}).title) });
  }

  function draw(element, figure) {
    const own = paint(figure.layout);
    const layout = Object.assign({
      margin: { l: 56, r: 12, t: 8, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x unified", bargap: 0.25,
      font: { family: FONT, size: 12, color: colour("text") }, hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text") } },
      legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" }, showlegend: true,
    }, own);
    layout.margin = Object.assign({ l: 56, r: 12, t: 8, b: 44 }, own.margin);
    for (const key of Object.keys(own)) if (/^[xy]axis/.test(key)) layout[key] = axis(own[key]);
    Plotly.react(element, paint(figure.data), layout, CONFIG);
  }

  return { draw };
})();
