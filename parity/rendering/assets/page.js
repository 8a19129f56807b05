// The page: what is selected, and what follows from it.

const record = await unpacked("record");
const rows = record.rows.map((row, index) => ({ ...row, heat: heatOf(row.heat), index }));
const selection = { row: null, view: "accumulated" };

/** The JSON that the element `id` holds, compressed and in base64. */
async function unpacked(id) {
  const bytes = bytesOf(document.getElementById(id).textContent);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

function bytesOf(text) {
  return Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
}

/** A heat map as numbers: a byte a cell, in steps of the largest; the last number is for what is not finite. */
function heatOf(heat) {
  if (!heat) return null;
  const cells = [...bytesOf(heat.cells)].map((byte) => (byte === 255 ? null : (byte / 254) * heat.most));
  const values = Array.from({ length: heat.height }, (_, line) => cells.slice(line * heat.width, (line + 1) * heat.width));
  return { check: heat.check, most: heat.most, step: heat.most / 254, values };
}

/** Make `row` the selected layer everywhere on the page. */
function select(row) {
  selection.row = row;
  for (const line of document.querySelectorAll("#layers tr[aria-selected]")) line.removeAttribute("aria-selected");
  const line = lineOf.get(row.layer);
  line.setAttribute("aria-selected", "true");
  bringIntoBox(line);
  drawGrowth(rows, selection.view, row);
  drawDetail(row, record.images);
}

/** Scroll the table's own box, not the page, until the line is in it. */
function bringIntoBox(line) {
  const box = line.closest(".scroll");
  if (!box) return; // the filter has taken it out
  const [outer, inner] = [box.getBoundingClientRect(), line.getBoundingClientRect()];
  const heads = line.closest("table").tHead.offsetHeight;
  if (inner.top < outer.top + heads || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - outer.height / 2;
}

function showView(view) {
  selection.view = view;
  for (const button of document.querySelectorAll("button[data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }
  drawGrowth(rows, view, selection.row);
}

const worstRatio = (row) => Math.max(0, ...Object.values(row.checks).map((check) => ratioOf(check) ?? 0));
const byName = (layer) => rows.find((row) => row.layer === layer);

buildTable("layers", rows, "layer");
if (record.backward?.length) {
  buildTable("backward", record.backward.map((row, index) => ({ ...row, index })), "variable");
}
const lineOf = new Map([...document.querySelectorAll("#layers tbody tr")].map((line) => [line.dataset.layer, line]));

for (const button of document.querySelectorAll("button[data-view]")) {
  button.addEventListener("click", () => showView(button.dataset.view));
}
document.getElementById("layers").addEventListener("click", (event) => {
  const line = event.target.closest("tbody tr");
  if (line) select(byName(line.dataset.layer));
});
document.getElementById("first-failure")?.addEventListener("click", (event) => select(byName(event.target.dataset.layer)));

const worst = rows.reduce((most, row) => (worstRatio(row) > worstRatio(most) ? row : most));
const first = byName(record.first_failure);
select(first ?? worst);
const picture = document.getElementById("first-picture");
if (picture && first?.heat) {
  const note = `Where in the image ${first.layer} differs most (dark), ${first.heat.check}`;
  picture.append(element("img", { src: heatPicture(first.heat), alt: note }), element("figcaption", {}, note));
}
