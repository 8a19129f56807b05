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
  if (row.fault) summary.append(element("br"), element("span", { class: "failed-text" }, row.fault));
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
  clearPlot(name);
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
  const exponents = [];
  for (let exponent = Math.ceil(low); exponent <= high; exponent += 1) exponents.push({ at: exponent, text: powerLabel(exponent) });
  const most = Math.max(1, ...counts);
  return drawPlot("histogram", {
    series: [{
      kind: "bars", name: "values", barWidth: width, x: counts.map((_, bin) => low + width * (bin + 0.5)), y: counts,
      text: counts.map((count, bin) => `10^${low + width * bin} to 10^${low + width * (bin + 1)}: ${count.toLocaleString("en")}`),
    }],
    lines: limit > 0 ? [{ x: Math.log10(limit), class: "allowed", label: "limit" }] : [],
    x: { label: "|difference| / largest |reference|", range: [low - 1, Math.max(high, limit > 0 ? Math.log10(limit) + 0.5 : high)], ticks: exponents },
    y: { label: "values", range: [0, 1.05 * most], ticks: [0, 0.5, 1].map((part) => ({ at: part * most, text: shortCount(part * most) })) },
  });
}

const shortCount = (count) => Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(count);

// Of the colours of cells: none of a difference, and the largest of the layer. They are a picture's own, in the dark too.
const HEAT_COLOURS = [[0, [247, 249, 251]], [0.35, [169, 198, 227]], [0.7, [47, 111, 174]], [1, [11, 37, 69]]];
const UNKNOWN_COLOUR = [179, 38, 30];

function colourOf(part) {
  if (part === null) return UNKNOWN_COLOUR;
  const next = Math.max(1, HEAT_COLOURS.findIndex(([at]) => at >= part));
  const [[from, low], [to, high]] = [HEAT_COLOURS[next - 1], HEAT_COLOURS[next]];
  return low.map((value, place) => value + ((part - from) / (to - from)) * (high[place] - value));
}

/** A heat map as the address of a picture, a pixel a cell. */
function heatPicture(heat) {
  const canvas = element("canvas", { width: heat.values[0].length, height: heat.values.length });
  const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
  heat.values.flat().forEach((value, place) => {
    pixels.data.set([...colourOf(value === null ? null : heat.most > 0 ? value / heat.most : 0), 255], 4 * place);
  });
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

function drawHeat(row, images) {
  const heat = row.heat;
  if (!heat) return drawNothing("heat", "No heat map: the record has none of this layer.");
  document.getElementById("heat-note").textContent = `Where in the image, ${heat.check}: the largest relative difference in each `
    + `cell, from 0 (light) to ${figure(heat.most)} (dark)${heat.values.flat().includes(null) ? "; red: not finite" : ""}.`;
  const [height, width] = images.shape.slice(-2);
  const [cellHeight, cellWidth] = [height / heat.values.length, width / heat.values[0].length];
  drawPlot("heat", {
    series: [], picture: heatPicture(heat), aspect: width / height,
    x: { label: "x, image pixels", range: [0, width], ticks: countTicks(width) },
    y: { label: "y, image pixels", range: [height, 0], ticks: countTicks(height).filter((_, place) => place % 2 === 0) },
    tell: (x, down) => {
      const [line, column] = [Math.floor((down * height) / cellHeight), Math.floor(x / cellWidth)];
      const value = heat.values[line]?.[column];
      return value === undefined ? null : `x ${Math.round(x)}, y ${Math.round(down * height)}: ${heatText(value, heat)}`;
    },
  });
  document.getElementById("heat").heat = heat;
}

const heatText = (value, heat) => (value === null ? "not finite" : value === 0 && heat.most > 0 ? `below ${figure(heat.step)}` : figure(value));
