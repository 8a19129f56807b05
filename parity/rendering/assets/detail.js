// One layer: every figure of its checks, how its differences are distributed, and where in the image they are.

const UNITS = [
  ["check", (name) => name],
  ["outcome", (name, check) => stateOf(check.ok)],
  ["error", (name, check) => figure(check.error)],
  ["limit", (name, check) => figure(check.limit)],
  ["error / limit", (name, check) => ratioText(check)],
  ["root mean square", (name, check) => figure(check.rms)],
  ["1 − cosine", (name, check) => figure(known(check.cosine) ? 1 - check.cosine : null)],
  ["largest ulp distance", (name, check) => (known(check.ulp) ? check.ulp.toLocaleString("en", { maximumFractionDigits: 1 }) : "–")],
  ["candidate noise", (name, check) => noiseText(check.noise, "candidate")],
  ["reference noise", (name, check) => noiseText(check.noise, "reference")],
];

const known = (value) => value !== null && value !== undefined;
const ratioOf = (check) => (known(check.error) && check.limit > 0 ? check.error / check.limit : null);
const ratioText = (check) => (ratioOf(check) === null ? "–" : ratioOf(check).toPrecision(2));

function noiseText(noise, side) {
  if (!noise) return "–";
  return figure(noise[side]) + (noise.estimated && known(noise[side]) ? " (estimated)" : "");
}

/** Fill the panel with `row`; `images` says how large the image is that the heat map covers. */
function drawDetail(row, images) {
  const panel = document.getElementById("detail");
  panel.dataset.layer = row.layer;
  document.getElementById("detail-title").textContent = row.layer;
  const summary = document.getElementById("detail-summary");
  const facts = [row.official ?? "no official name", shapeText(row.shape)].join(" · ");
  summary.replaceChildren(stateOf(row.ok), ` · ${facts}`);
  if (row.fault) summary.append(element("br"), element("span", { class: "state-failed" }, row.fault));
  const names = Object.keys(row.checks);
  const head = UNITS.map(([title], place) => element("th", { scope: "col", class: place > 1 ? "number" : "" }, title));
  const lines = names.map((name) => element("tr", { "data-check": name },
    ...UNITS.map(([title, cell], place) => element("td", {
      "data-figure": title, class: (place > 1 ? "number" : "") + (title === "error" && !row.checks[name].ok ? " over" : ""),
    }, cell(name, row.checks[name])))));
  document.getElementById("detail-checks").replaceChildren(
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
  drawHistogram(row);
  drawHeat(row, images);
}

/** Empty the plot and say why, where the record has nothing to draw. */
function drawNothing(name, why) {
  Plotly.purge(name);
  document.getElementById(`${name}-note`).textContent = why;
}

function drawHistogram(row) {
  const histogram = row.histogram;
  if (!histogram) return drawNothing("histogram", "No differences to count: the record has no histogram of this layer.");
  const { low, width, counts, zeros } = histogram;
  const different = counts.reduce((sum, count) => sum + count, 0);
  document.getElementById("histogram-note").textContent =
    `Size of the differences, ${histogram.check}: ${different.toLocaleString("en")} values differ; `
    + `${zeros.toLocaleString("en")} are exactly equal and not drawn.`;
  const limit = row.checks[histogram.check]?.limit;
  const high = low + width * counts.length;
  const step = Math.ceil((high - low) / 12);
  const exponents = [];
  for (let exponent = Math.ceil(low); exponent <= high; exponent += step) exponents.push(exponent);
  return Plotly.react("histogram", [{
    type: "bar", width, marker: { color: "#1f5fa8", line: { color: "#fff", width: 0.5 } },
    x: counts.map((_, bin) => low + width * (bin + 0.5)), y: counts,
    text: counts.map((count, bin) => `10^${low + width * bin} to 10^${low + width * (bin + 1)}: ${count.toLocaleString("en")}`),
    textposition: "none", hoverinfo: "text",
  }], {
    font: PLOT_FONT, margin: { l: 64, r: 12, t: 28, b: 56 }, bargap: 0, showlegend: false,
    xaxis: { title: axisTitle("|difference| / largest |reference|"), range: [low - 1, high], tickvals: exponents, ticktext: exponents.map(powerLabel), zeroline: false },
    yaxis: { title: axisTitle("values"), gridcolor: GRID },
    shapes: limit > 0 ? [{ ...verticalLine(Math.log10(limit), "#b3261e", "dash"), layer: "above" }] : [],
    annotations: limit > 0 ? [{
      x: Math.log10(limit), y: 1, yref: "paper", yanchor: "bottom", showarrow: false, text: "limit", font: { size: 12, color: "#b3261e" },
    }] : [],
  }, PLOT_CONFIG);
}

function drawHeat(row, images) {
  const heat = row.heat;
  if (!heat) return drawNothing("heat", "No heat map: the record has none of this layer.");
  document.getElementById("heat-note").textContent = `Where in the image, ${heat.check}: the largest relative difference in each cell.`;
  const [height, width] = images.shape.slice(-2);
  const [dy, dx] = [height / heat.values.length, width / heat.values[0].length];
  return Plotly.react("heat", [{
    type: "heatmap", z: heat.values, x0: dx / 2, dx, y0: dy / 2, dy, zmin: 0,
    colorscale: [[0, "#f7f9fb"], [0.35, "#a9c6e3"], [0.7, "#2f6fae"], [1, "#0b2545"]],
    colorbar: { exponentformat: "e", thickness: 14, outlinewidth: 0, tickformat: ".1e" },
    hovertemplate: "x %{x:.0f}, y %{y:.0f}: %{z:.2e}<extra></extra>",
  }], {
    font: PLOT_FONT, margin: { l: 56, r: 12, t: 28, b: 56 },
    xaxis: { title: axisTitle("x, image pixels"), constrain: "domain", showgrid: false, zeroline: false, range: [0, width] },
    yaxis: { title: axisTitle("y, image pixels"), constrain: "domain", showgrid: false, zeroline: false, range: [height, 0], scaleanchor: "x" },
  }, PLOT_CONFIG);
}
