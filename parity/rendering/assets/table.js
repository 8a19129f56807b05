// Tables of checked things (layers, gradients): sorted by any column, filtered by text or by outcome.

const figure = (value) => (value === null || value === undefined ? "–" : value === 0 ? "0" : value.toExponential(1));

/** A new element; children that are text stay text, whatever they spell. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const stateOf = (ok) => element("span", { class: ok ? "ok-text" : "failed-text" }, ok ? "ok" : "failed");

/** The checks that any row has, in the order they first appear. */
const checkNames = (rows) => [...new Set(rows.flatMap((row) => Object.keys(row.checks)))];

/** What a table shows: each column's key, heading, value to sort by and cell to show. */
function columnsOf(rows, nameKey) {
  const columns = [
    { key: "index", head: "#", number: true, value: (row) => row.index, cell: (row) => String(row.index) },
    { key: "ok", head: "outcome", value: (row) => (row.ok ? "ok" : "failed"), cell: (row) => stateOf(row.ok) },
    { key: nameKey, head: nameKey, value: (row) => row[nameKey], cell: (row) => nameCell(row, nameKey) },
  ];
  for (const check of checkNames(rows)) {
    for (const part of ["error", "limit"]) {
      columns.push({
        key: `${check} ${part}`, head: part, group: check, number: true,
        value: (row) => row.checks[check]?.[part] ?? null,
        cell: (row) => figure(row.checks[check]?.[part]),
        over: (row) => part === "error" && row.checks[check]?.ok === false,
      });
    }
  }
  columns.push(
    // Shapes sort by how many values they hold.
    { key: "shape", head: "shape", value: (row) => sizeOf(row.shape), cell: (row) => shapeText(row.shape) },
    { key: "official", head: "official name", value: (row) => row.official, cell: (row) => row.official ?? "–" },
  );
  return columns;
}

const sizeOf = (shape) => (shape ? shape.reduce((product, side) => product * side, 1) : null);
const shapeText = (shape) => (shape ? shape.join(" × ") : "–");

function nameCell(row, nameKey) {
  const name = nameKey === "layer" ? element("button", { type: "button", class: "layer" }, row.layer) : element("span", {}, row[nameKey]);
  const cell = element("span", {}, name);
  if (row.fault) cell.append(element("span", { class: "fault" }, row.fault));
  return cell;
}

// The numbers in names count as numbers: blocks.2 before blocks.10.
const NAMES = new Intl.Collator("en", { numeric: true });

/** Smaller first; what has no value is last in either direction. */
function compareBy(value, direction) {
  return (left, right) => {
    const [a, b] = [value(left), value(right)];
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (typeof a === "string" ? NAMES.compare(a, b) : a - b);
  };
}

/** Fill the table `id` (its filter, checkbox and count are named after it) with `rows`. */
function buildTable(id, rows, nameKey) {
  const columns = columnsOf(rows, nameKey);
  const table = document.getElementById(id);
  const filter = document.getElementById(`${id}-filter`);
  const failing = document.getElementById(`${id}-failing`);
  const body = element("tbody");
  const lines = new Map(rows.map((row) => [row, bodyLine(row, columns, nameKey)]));
  const heads = columns.map(headCell);
  let sorted = { column: columns[0], direction: 1 };

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = rows.filter((row) => {
      const text = `${row[nameKey]} ${row.official ?? ""} ${row.fault}`.toLowerCase();
      return (!failing.checked || !row.ok) && words.every((word) => text.includes(word));
    });
    shown.sort(compareBy(sorted.column.value, sorted.direction));
    body.replaceChildren(...shown.map((row) => lines.get(row)));
    document.getElementById(`${id}-count`).textContent = `${shown.length} of ${rows.length}`;
    heads.forEach((head, position) => {
      const here = columns[position] === sorted.column;
      head.setAttribute("aria-sort", here ? (sorted.direction > 0 ? "ascending" : "descending") : "none");
    });
  }

  heads.forEach((head, position) => {
    head.querySelector("button").addEventListener("click", () => {
      const column = columns[position];
      sorted = { column, direction: column === sorted.column ? -sorted.direction : 1 };
      show();
    });
  });
  filter.addEventListener("input", show);
  failing.addEventListener("change", show);
  table.append(element("thead", {}, groupLine(columns), element("tr", {}, ...heads)), body);
  show();
}

/** The class of a column that begins a group. */
const edgeOf = (column) => (column.head === "error" || column.key === "shape" ? "edge" : "");

function headCell(column) {
  const name = column.group ? `${column.group} ${column.head}` : column.head;
  return element("th", { scope: "col", "data-column": column.key, class: `${column.number ? "number" : ""} ${edgeOf(column)}` },
    element("button", { type: "button", "aria-label": `Sort by ${name}` }, column.head));
}

/** The line above the headings that says which check an error and a limit belong to. */
function groupLine(columns) {
  const groups = [...new Set(columns.flatMap((column) => column.group ?? []))];
  const before = columns.findIndex((column) => column.key === "shape") - 2 * groups.length;
  return element("tr", {}, element("th", { colspan: before }),
    ...groups.map((group) => element("th", { colspan: 2, scope: "colgroup", class: "group" }, group)),
    element("th", { colspan: 2, class: "edge" }));
}

function bodyLine(row, columns, nameKey) {
  const line = element("tr", { [`data-${nameKey}`]: row[nameKey], "data-ok": row.ok ? "ok" : "failed" });
  for (const column of columns) {
    const names = [column.number && "number", column.over?.(row) && "over", edgeOf(column)];
    line.append(element("td", { "data-column": column.key, class: names.filter(Boolean).join(" ") }, column.cell(row)));
  }
  return line;
}
