// The curve of errors over depth.

const VIEW_MEANING = {
  accumulated: "both models run from the image: what a layer inherits counts",
  local: "each layer is given the reference's own input: only what it adds counts",
};

// What is drawn: a name, the precision, how to find its figure in a check, and the pen.
const CURVES = [
  { name: "float32 error", precision: "float32", isError: true, get: (check) => check.error, class: "curve first" },
  { name: "float32 limit", precision: "float32", get: (check) => check.limit, class: "limit first" },
  { name: "candidate noise", precision: "float32", get: (check) => check.noise?.candidate, class: "thin third" },
  { name: "reference noise", precision: "float32", get: (check) => check.noise?.reference, class: "thin fourth" },
  { name: "float64 error", precision: "float64", isError: true, get: (check) => check.error, class: "curve second" },
  { name: "float64 limit", precision: "float64", get: (check) => check.limit, class: "limit second" },
];

const powerLabel = (exponent) => `1e${exponent}`;

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
  const floor = Math.floor(Math.log10(lowest)) - 1;
  const ceiling = Math.ceil(Math.log10(highest)) + 1;
  const toAxis = (value) => (value === null ? null : value === 0 ? floor : Math.log10(value));
  const series = CURVES.map((curve, number) => ({
    // Local errors do not depend on each other: a line between them would say nothing.
    kind: curve.isError && view === "local" ? "points" : "line", name: curve.name, class: curve.class,
    x: rows.map((row) => row.index),
    y: figures[number].map(toAxis),
    text: rows.map((row, index) => hoverText(row, curve.name, figures[number][index])),
  })).filter((each) => each.y.some((value) => value !== null));
  const failing = failingSeries(rows, view, ceiling, toAxis);
  series.push(failing);
  const parts = partsOf(rows);
  drawPlot("growth", {
    series, zooms: true, key: view, // what is looked at closer stays so when another layer is selected
    lines: [
      ...parts.slice(1).map((part) => ({ x: part.start - 0.5, class: "grid" })), { x: selected.index, class: "chosen" },
    ],
    texts: parts.map((part) => ({ from: part.start, to: part.start + part.count, text: part.name })),
    x: { label: "layer, in order of execution", range: [-0.01 * rows.length - 0.5, 1.01 * rows.length], ticks: countTicks(rows.length) },
    y: { label: "relative difference", ...logTicks(floor, ceiling) },
    pick: (each, place) => select(rows[each.x[place]]),
  });
  drawLegend(series);
  document.getElementById("view-meaning").textContent = VIEW_MEANING[view];
  noteGrowth(figures.flat().filter((value) => value === 0).length, failing.y.filter((y) => y === ceiling).length);
}

function hoverText(row, name, value) {
  return `${row.layer}\n${name}: ${value === 0 ? "0 (exactly equal)" : figure(value)}`;
}

/** A mark for each failing layer: at the figures that fail in this view, or where it has any, or at the top. */
function failingSeries(rows, view, ceiling, toAxis) {
  const points = rows.filter((row) => !row.ok).flatMap((row) => {
    const checks = Object.entries(row.checks).filter(([name]) => name.endsWith(` ${view}`));
    const over = checks.filter(([, check]) => !check.ok);
    const marked = over.length > 0 ? over : checks.slice(0, 1);
    if (marked.length === 0) return [{ row, y: ceiling, text: "not compared" }];
    return marked.map(([name, check]) => (
      { row, y: toAxis(check.error) ?? ceiling, text: `${name}: ${figure(check.error)}` }));
  });
  return {
    kind: "crosses", name: "failing layer", class: "cross",
    x: points.map((point) => point.row.index), y: points.map((point) => point.y),
    text: points.map((point) => `${point.row.layer}: failed\n${point.row.fault || point.text}`),
  };
}

function drawLegend(series) {
  const named = series.filter((each) => each.x.length > 0);
  document.getElementById("growth-legend").replaceChildren(...named.map((each) => {
    const pen = shape("svg", { width: 26, height: 10, "aria-hidden": "true" });
    pen.append(each.kind === "crosses" ? shape("path", { d: crossAt(13, 5), class: "cross" })
      : shape("line", { x1: 0, x2: 26, y1: 5, y2: 5, class: each.class }));
    return element("span", {}, pen, each.name);
  }));
}

/** Ticks at powers of ten, about a dozen, and the two lines that are not figures. */
function logTicks(floor, ceiling) {
  const step = Math.ceil((ceiling - floor) / 12);
  const ticks = [{ at: floor, text: "0" }];
  for (let exponent = floor + 1; exponent < ceiling; exponent += step) ticks.push({ at: exponent, text: powerLabel(exponent) });
  return { ticks: [...ticks, { at: ceiling, text: "no figure" }], range: [floor - 0.4, ceiling + 0.4] };
}

/** Round numbers up to `count`, a dozen or two. */
function countTicks(count) {
  const rough = Math.max(1, count / 12), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  return Array.from({ length: Math.floor(count / step) + 1 }, (_, place) => ({ at: place * step, text: String(place * step) }));
}

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

/** Say what the two lines that are not figures mean, where they are used. */
function noteGrowth(zeros, unknown) {
  const notes = ["Click a point to see its layer; drag over a stretch to look closer, double-click to see all."];
  if (zeros > 0) notes.push(`Exact zeros (${zeros} figures) are drawn on the line marked 0: a logarithmic axis has no place for them.`);
  if (unknown > 0) notes.push(`Failures without a figure (${unknown}) are marked on the line above.`);
  document.getElementById("growth-note").textContent = notes.join(" ");
}
