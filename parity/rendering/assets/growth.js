// The curve of errors over depth.

const PLOT_CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const PLOT_FONT = { family: 'system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif', size: 13, color: "#1c2126" };
const GRID = "#e6eaee";

const VIEW_MEANING = {
  accumulated: "both models run from the image: what a layer inherits counts",
  local: "each layer is given the reference's own input: only what it adds counts",
};

// What is drawn: a name, the precision, how to find its figure in a check, and the pen.
const CURVES = [
  { name: "float32 error", precision: "float32", isError: true, get: (check) => check.error, line: { color: "#1f5fa8", width: 2 } },
  { name: "float32 limit", precision: "float32", get: (check) => check.limit, line: { color: "#1f5fa8", width: 1.5, dash: "dash" } },
  { name: "candidate noise", precision: "float32", get: (check) => check.noise?.candidate, line: { color: "#2a9d8f", width: 1 } },
  { name: "reference noise", precision: "float32", get: (check) => check.noise?.reference, line: { color: "#c98a1b", width: 1 } },
  { name: "float64 error", precision: "float64", isError: true, get: (check) => check.error, line: { color: "#6a4c93", width: 2 } },
  { name: "float64 limit", precision: "float64", get: (check) => check.limit, line: { color: "#6a4c93", width: 1.5, dash: "dash" } },
];

/** Text for a plot: the plotting library reads tags in it, so that a name must not look like one. */
const plotText = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const axisTitle = (text) => ({ text, font: { size: 13 } });
const powerLabel = (exponent) => `10<sup>${exponent}</sup>`.replace("-", "−");

/** Draw one view ("accumulated" or "local") of all rows, with a line at the selected one. */
function drawGrowth(rows, view, selected) {
  const figures = CURVES.map((curve) => rows.map((row) => {
    const check = row.checks[`${curve.precision} ${view}`];
    return check ? (curve.get(check) ?? null) : null;
  }));
  const positive = figures.flat().filter((value) => value > 0);
  // A logarithmic axis has no zero and no "unknown": each gets a line of its own, below and above all figures.
  // reduce, because spreading ten thousand figures into Math.min can exhaust the stack.
  const lowest = positive.reduce((least, value) => Math.min(least, value), 1);
  const highest = positive.reduce((most, value) => Math.max(most, value), lowest);
  const floor = 10 ** (Math.floor(Math.log10(lowest)) - 1);
  const ceiling = 10 ** (Math.ceil(Math.log10(highest)) + 1);
  const traces = CURVES.map((curve, number) => ({
    // Local errors do not depend on each other: a line between them would say nothing.
    type: "scatter", mode: curve.isError && view === "local" ? "markers" : "lines", name: curve.name, line: curve.line,
    marker: { size: 5, color: curve.line.color },
    x: rows.map((row) => row.index),
    y: figures[number].map((value) => (value === 0 ? floor : value)),
    text: rows.map((row, index) => hoverText(row, curve.name, figures[number][index])),
    hoverinfo: "text",
  })).filter((trace) => trace.y.some((value) => value !== null));
  const failing = failingTrace(rows, view, floor, ceiling);
  traces.push(failing);
  const shapes = [verticalLine(selected.index, "#5a6570", "dot")];
  const parts = partsOf(rows);
  shapes.push(...parts.slice(1).map((part) => verticalLine(part.start - 0.5, GRID, "solid")));
  Plotly.react("growth", traces, {
    font: PLOT_FONT, margin: { l: 84, r: 16, t: 56, b: 48 }, hovermode: "closest", shapes,
    annotations: parts.filter((part) => part.count / rows.length > labelShare(part)).map(partLabel),
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.05, yanchor: "bottom" },
    // Zooming is kept when another layer is selected, not when another view is chosen.
    uirevision: view,
    xaxis: { title: axisTitle("layer, in order of execution"), gridcolor: GRID, zeroline: false, range: [-0.01 * rows.length - 0.5, 1.01 * rows.length] },
    yaxis: { title: axisTitle("relative difference"), type: "log", gridcolor: GRID, ...logTicks(floor, ceiling) },
  }, PLOT_CONFIG);
  document.getElementById("view-meaning").textContent = VIEW_MEANING[view];
  noteGrowth(figures.flat().filter((value) => value === 0).length, failing.y.filter((y) => y === ceiling).length);
}

function hoverText(row, name, value) {
  return `${plotText(row.layer)}<br>${name}: ${value === 0 ? "0 (exactly equal)" : figure(value)}`;
}

/** A mark for each failing layer: at the figures that fail in this view, or where it has any, or at the top. */
function failingTrace(rows, view, floor, ceiling) {
  const points = rows.filter((row) => !row.ok).flatMap((row) => {
    const checks = Object.entries(row.checks).filter(([name]) => name.endsWith(` ${view}`));
    const over = checks.filter(([, check]) => !check.ok);
    const marked = over.length > 0 ? over : checks.slice(0, 1);
    if (marked.length === 0) return [{ row, y: ceiling, text: "not compared" }];
    return marked.map(([name, check]) => ({
      row, y: check.error === null ? ceiling : check.error === 0 ? floor : check.error, text: `${name}: ${figure(check.error)}`,
    }));
  });
  return {
    type: "scatter", mode: "markers", name: "failing layer", hoverinfo: "text",
    marker: { symbol: "x", size: 9, color: "#b3261e", line: { color: "#fff", width: 1 } },
    x: points.map((point) => point.row.index), y: points.map((point) => point.y),
    text: points.map((point) => `${plotText(point.row.layer)}: failed<br>${plotText(point.row.fault || point.text)}`),
  };
}

/** Ticks at powers of ten, about a dozen, and the two lines that are not figures. */
function logTicks(floor, ceiling) {
  const [low, high] = [Math.round(Math.log10(floor)), Math.round(Math.log10(ceiling))];
  const step = Math.ceil((high - low) / 12);
  const exponents = [];
  for (let exponent = low + 1; exponent < high; exponent += step) exponents.push(exponent);
  return {
    tickvals: [floor, ...exponents.map((exponent) => 10 ** exponent), ceiling],
    ticktext: ["0", ...exponents.map(powerLabel), "no figure"],
    range: [low - 0.4, high + 0.4],
  };
}

const verticalLine = (x, color, dash) => (
  { type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, layer: "below", line: { color, width: 1.5, dash } });

/** Stretches of layers whose names begin alike: backbone, then feature network, then heads. */
function partsOf(rows) {
  const parts = [];
  for (const row of rows) {
    const name = row.layer.split(".")[0];
    if (parts.at(-1)?.name === name) parts.at(-1).count += 1;
    else parts.push({ name, start: row.index, count: 1 });
  }
  return parts;
}

/** The share of the plot's width that the part's name needs. */
const labelShare = (part) => (9 * part.name.length) / document.getElementById("growth").clientWidth;

const partLabel = (part) => ({
  x: part.start + part.count / 2, y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
  text: plotText(part.name), font: { size: 12, color: "#5a6570" },
});

/** Say what the two lines that are not figures mean, where they are used. */
function noteGrowth(zeros, unknown) {
  const notes = ["Click a point to see its layer."];
  if (zeros > 0) notes.push(`Exact zeros (${zeros} figures) are drawn on the line marked 0: a logarithmic axis has no place for them.`);
  if (unknown > 0) notes.push(`Failures without a figure (${unknown}) are marked on the line above.`);
  document.getElementById("growth-note").textContent = notes.join(" ");
}
