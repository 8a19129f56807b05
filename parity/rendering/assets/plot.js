// Plots as SVG: lines, marks and bars between two axes, and maps of cells. What is near the pointer is told beside it.

const MARGIN = { left: 62, right: 14, top: 22, bottom: 44 };
const NEAR = 24; // pixels at which a point is meant
const CROSS = 5;
const TICK_WIDTH = 64; // pixels of the x axis for each of its labels, at least

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const plots = new Map();
const resized = new ResizeObserver((entries) => entries.forEach((entry) => {
  const plot = plots.get(entry.target.id);
  if (plot && entry.target.clientWidth !== plot.width) render(entry.target.id);
}));

/**
 * Draw a plot into the element `id`: `series` of { name, kind, class, x, y, text }, where kind is "line", "points",
 * "crosses" or "bars"; a `picture` that covers the area; axes `x` and `y` of { label, range, ticks: [{ at, text }] };
 * `lines` across at { x, class, label }; `texts` above a stretch of the area, { from, to, text }; `pick(series, place)` after a click.
 */
function drawPlot(id, plot) {
  const host = document.getElementById(id);
  plots.set(id, { ...plot, width: 0, zoomed: plots.get(id)?.key === plot.key ? plots.get(id)?.zoomed : undefined });
  host.data = plot.series;
  host.hidden = false;
  resized.observe(host);
  render(id);
}

/** Nothing is left in the element. */
function clearPlot(id) {
  plots.delete(id);
  const host = document.getElementById(id);
  host.replaceChildren();
  host.hidden = true;
  delete host.data;
}

function render(id) {
  const host = document.getElementById(id), plot = plots.get(id);
  const [width, height] = [host.clientWidth, host.clientHeight];
  plot.width = width;
  const area = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  if (plot.aspect) fitAspect(area, plot.aspect);
  const range = plot.zoomed ?? plot.x.range;
  const toX = (x) => area.left + ((x - range[0]) / (range[1] - range[0])) * (area.right - area.left);
  const toY = (y) => area.bottom - ((y - plot.y.range[0]) / (plot.y.range[1] - plot.y.range[0])) * (area.bottom - area.top);
  host.toPixels = (x, y) => [toX(x), toY(y)];
  const within = (x) => x >= range[0] && x <= range[1];
  const svg = shape("svg", { width, height, role: "img" });
  drawAxes(svg, plot, area, toX, toY, within);
  const drawn = shape("g");
  if (plot.picture) {
    drawn.append(shape("image", { x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top,
      preserveAspectRatio: "none", href: plot.picture }));
  }
  for (const line of plot.lines ?? []) {
    if (!within(line.x)) continue;
    drawn.append(shape("line", { x1: toX(line.x), x2: toX(line.x), y1: area.top, y2: area.bottom, class: line.class }));
    if (line.label) svg.append(shape("text", { x: toX(line.x), y: area.top - 6, "text-anchor": "middle" }, line.label));
  }
  for (const series of plot.series) drawSeries(drawn, series, toX, toY, within);
  for (const { from, to, text } of plot.texts ?? []) {
    const room = toX(Math.min(to, range[1])) - toX(Math.max(from, range[0]));
    if (room > 8 * text.length) {
      const middle = (Math.max(from, range[0]) + Math.min(to, range[1])) / 2;
      svg.append(shape("text", { x: toX(middle), y: area.top - 6, "text-anchor": "middle" }, text));
    }
  }
  svg.append(drawn);
  host.replaceChildren(svg);
  follow(host, svg, plot, area, toX, toY, range);
}

/** Narrow the area to `aspect`, its width over its height. */
function fitAspect(area, aspect) {
  const width = area.right - area.left, height = area.bottom - area.top;
  if (width / height > aspect) area.right = area.left + height * aspect;
  else area.bottom = area.top + width / aspect;
}

function drawAxes(svg, plot, area, toX, toY, within) {
  for (const { at, text } of plot.y.ticks) {
    svg.append(shape("line", { x1: area.left, x2: area.right, y1: toY(at), y2: toY(at), class: "grid" }));
    svg.append(shape("text", { x: area.left - 6, y: toY(at) + 4, "text-anchor": "end" }, text));
  }
  let last = -Infinity;
  for (const { at, text } of plot.x.ticks) {
    const x = toX(at);
    if (!within(at) || x - last < TICK_WIDTH || x > area.right - 4 * text.length + MARGIN.right) continue;
    last = x;
    svg.append(shape("text", { x, y: area.bottom + 17, "text-anchor": "middle" }, text));
  }
  svg.append(shape("line", { x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom, class: "grid" }));
  svg.append(shape("text", { x: (area.left + area.right) / 2, y: area.bottom + 36, "text-anchor": "middle" }, plot.x.label));
  const middle = (area.top + area.bottom) / 2;
  svg.append(shape("text", { x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }, plot.y.label));
}

function drawSeries(drawn, series, toX, toY, within) {
  const points = series.x.map((x, place) => [x, series.y[place]]).filter(([x, y]) => within(x) && y !== null);
  if (series.kind === "line") {
    const steps = []; // a gap where there is no figure
    let open = false;
    series.x.forEach((x, place) => {
      const y = series.y[place];
      if (!within(x) || y === null) { open = false; return; }
      steps.push(`${open ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`);
      open = true;
    });
    drawn.append(shape("path", { d: steps.join(""), class: series.class }));
  }
  for (const [x, y] of points) {
    if (series.kind === "points") drawn.append(shape("circle", { cx: toX(x), cy: toY(y), r: 2, class: series.class }));
    if (series.kind === "crosses") drawn.append(shape("path", { d: crossAt(toX(x), toY(y)), class: "cross" }));
    if (series.kind === "bars") {
      const [from, to] = [toX(x - series.barWidth / 2), toX(x + series.barWidth / 2)];
      drawn.append(shape("rect", { x: from, width: Math.max(1, to - from - 1), y: toY(y), height: Math.max(0, toY(0) - toY(y)), class: "bar" }));
    }
  }
}

const crossAt = (x, y) => `M${x - CROSS} ${y - CROSS}L${x + CROSS} ${y + CROSS}M${x - CROSS} ${y + CROSS}L${x + CROSS} ${y - CROSS}`;

/** Tell what is near the pointer, pick it after a click; a stretch that is dragged over is looked at closer. */
function follow(host, svg, plot, area, toX, toY, range) {
  const toValue = (x) => range[0] + ((x - area.left) / (area.right - area.left)) * (range[1] - range[0]);
  const at = (event) => { const box = svg.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  let begun = null, stretch = null;
  const nearest = (x, y) => {
    let best = null;
    for (const series of plot.series) {
      series.x.forEach((value, place) => {
        if (series.y[place] === null) return;
        // Of a bar all of its height is meant.
        const away = series.kind === "bars" ? Math.abs(toX(value) - x) : Math.hypot(toX(value) - x, toY(series.y[place]) - y);
        if (away < (best?.away ?? NEAR)) best = { away, series, place };
      });
    }
    return best;
  };
  svg.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (begun !== null && plot.zooms && Math.abs(x - begun) > 5) {
      stretch ??= svg.appendChild(shape("rect", { y: area.top, height: area.bottom - area.top, class: "window" }));
      stretch.setAttribute("x", Math.min(x, begun));
      stretch.setAttribute("width", Math.abs(x - begun));
      return;
    }
    const found = nearest(x, y);
    showTip(host, plot.tell?.(toValue(x), (y - area.top) / (area.bottom - area.top)) ?? found?.series.text?.[found.place], x, y);
  });
  svg.addEventListener("pointerleave", () => showTip(host, null));
  svg.addEventListener("pointerdown", (event) => {
    [begun] = at(event);
    svg.setPointerCapture(event.pointerId); // so that it ends where the pointer is let go, wherever that is
  });
  svg.addEventListener("pointerup", (event) => {
    const [x, y] = at(event), from = begun;
    begun = null;
    if (stretch) {
      const ends = [Math.min(from, x), Math.max(from, x)].map(toValue);
      const [low, high] = ends.map((value) => Math.min(plot.x.range[1], Math.max(plot.x.range[0], value)));
      if (low < high) plot.zoomed = [low, high];
      return render(host.id);
    }
    const found = nearest(x, y);
    if (found) plot.pick?.(found.series, found.place);
  });
  svg.addEventListener("dblclick", () => {
    if (plot.zoomed) { plot.zoomed = undefined; render(host.id); }
  });
}

function showTip(host, text, x, y) {
  host.querySelector(".tip")?.remove();
  if (!text) return;
  const tip = host.appendChild(element("div", { class: "tip" }, text));
  tip.style.left = `${Math.max(0, Math.min(x + 12, host.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, y - tip.offsetHeight - 10)}px`;
}
