"use strict";
// The table: blocks of rows that may be compared, sorted within each block, filtered over all.

const BOARD = JSON.parse(window.BOARD_JSON);

const SIZES = [
  ["under 100 M", (n) => n < 1e8],
  ["100 M to 1 B", (n) => n >= 1e8 && n < 1e9],
  ["1 B to 10 B", (n) => n >= 1e9 && n < 1e10],
  ["10 B and more", (n) => n >= 1e10],
  ["not known", (n) => !isNumber(n)],
];
const STATUS = ["self-reported", "re-scored", "verified"];
const score = (name) => (entry) => (entry.scores[name] || {}).value;

// Key, heading, what sorts, and whether a first click puts the largest first.
const COLUMNS = [
  ["rank", "Rank", (entry) => entry.rank[0] + entry.rank[1] / 1e6, false],
  ["name", "Model", (entry) => entry.name.toLowerCase(), false],
  ["size", "Size", (entry) => entry.model_parameters, true],
  ["accuracy", "Accuracy, %", score("accuracy"), true],
  ["log_loss", "Log-loss", score("log_loss"), false],
  ["centred", "Centred, %", score("chance_centred_accuracy"), true],
  ["flips", "Flips, %", (entry) => (entry.position || {}).flip_rate, false],
  ["coverage", "Coverage, %", (entry) => entry.coverage, true],
  ["status", "Status", (entry) => (entry.status ? STATUS.indexOf(entry.status) : undefined), true],
];
const byId = (id) => document.getElementById(id);
const sorting = { key: "log_loss", down: false };
const bodies = [];

function size(n) {
  if (!isNumber(n)) return NONE;
  const [by, unit] = n >= 1e9 ? [1e9, " B"] : n >= 1e6 ? [1e6, " M"] : n >= 1e3 ? [1e3, " k"] : [1, ""];
  return `${Number((n / by).toPrecision(3))}${unit}`;
}

function measured(of, show, scale, chance, hollow) {
  if (!of) return [NONE];
  const interval = between(of, show);
  return [el("span", { class: "number" }, show(of.value)), " ", el("small", {}, interval), whisker(of, scale, chance, `interval ${interval}`, hollow)];
}

function entryRow(entry, block, scales, id) {
  const baseline = entry.kind === "baseline", scores = entry.scores, [best, worst] = entry.rank;
  const button = el("button", { type: "button", class: "open", "aria-expanded": "false", "aria-controls": id },
    el("span", { class: "arrow", "aria-hidden": "true" }, "▸"), el("span", { class: "name" }, entry.name));
  const cells = {
    rank: [best === worst ? String(best) : `${best}–${worst}`],
    name: [button, baseline ? el("small", { class: "mark" }, "baseline") : null],
    size: [size(entry.model_parameters)],
    accuracy: measured(scores.accuracy, percent, scales.accuracy, block.chance.accuracy, baseline),
    log_loss: measured(scores.log_loss, nats, scales.log_loss, block.chance.log_loss, baseline),
    centred: [percent((scores.chance_centred_accuracy || {}).value), " ", el("small", {}, between(scores.chance_centred_accuracy, percent))],
    flips: [percent((entry.position || {}).flip_rate)],
    coverage: [percent(entry.coverage)],
    status: [entry.status ? el("span", { class: `pill ${entry.status}` }, entry.status) : NONE],
  };
  const row = el("tr", { role: "row", class: `entry ${baseline ? "baseline" : "model"}` }, ...COLUMNS.map(([key, heading]) =>
    el(key === "name" ? "th" : "td", { class: key, role: key === "name" ? "rowheader" : "cell", scope: key === "name" ? "row" : null,
      "data-label": heading }, ...cells[key])));
  const inside = el("td", { colspan: COLUMNS.length, role: "cell" });
  const panelRow = el("tr", { role: "row", class: "panel", id, hidden: true }, inside);
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    if (open && !inside.firstChild) inside.append(panel(entry, block, BOARD.endpoint));
    button.setAttribute("aria-expanded", String(open));
    panelRow.hidden = !open;
  });
  return { entry, row, panelRow, button };
}

function blockBody(block, number) {
  const of = (name) => block.entries.map((entry) => entry.scores[name]);
  const scales = {
    accuracy: scaleOf(of("accuracy"), [block.chance.accuracy]),
    log_loss: scaleOf(of("log_loss"), [block.chance.log_loss], 2 * block.chance.log_loss),
  };
  const least = block.minimum_detectable_difference;
  const apart = isNumber(least) && least > 5e-4 ? `two models closer than ${percent(least)} points cannot be told apart (80 % power)` : "";
  const bench = [block.bench, block.versions.join(", ")].filter(Boolean).join(" ");
  const ends = (key, show) => el("td", { role: "cell" }, el("small", { class: "ends" }, el("span", {}, show(scales[key].low)),
    el("span", {}, `chance ${show(block.chance[key])}`), el("span", {}, show(scales[key].high))));
  const title = el("tr", { class: "block", role: "row" }, el("th", { colspan: COLUMNS.length, scope: "rowgroup", role: "rowheader" },
    el("span", { class: "title" }, `${block.subset} · ${block.regime} · ${block.mode}`),
    el("small", {}, `${whole(block.n_scenes)} scenes of ${whole(block.n_clusters)} users · ${bench} · rows `, el("code", { title: block.rows }, block.rows.slice(0, 16))),
    el("small", { class: block.underpowered ? "warning" : null }, block.underpowered ? `underpowered: fewer than 200 users${apart && `; ${apart}`}` : apart)));
  const paired = block.entries.filter((entry) => entry.paired).length;
  const ranked = paired ? `ranks of ${paired} rows by paired tests on the same scenes; of the others by intervals` : "ranks by intervals: no predictions to compare";
  title.firstChild.append(el("small", {}, ranked));
  const scale = el("tr", { class: "scale", role: "row" }, el("td", { colspan: 3, role: "cell" }, el("small", {}, "scale of the lines")),
    ends("accuracy", percent), ends("log_loss", nats), el("td", { colspan: COLUMNS.length - 5, role: "cell" }));
  const rows = block.entries.map((entry, i) => entryRow(entry, block, scales, `panel-${number}-${i}`));
  return { block, head: [title, scale], rows, body: el("tbody", { role: "rowgroup" }) };
}

function compare(one, other, down) {
  const missing = (value) => value === undefined || value === null;
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  const order = one < other ? -1 : one > other ? 1 : 0;
  return down ? -order : order;
}

function show() {
  const [, , value] = COLUMNS.find(([key]) => key === sorting.key);
  for (const { head, rows, body } of bodies) {
    const sorted = [...rows].sort((a, b) => compare(value(a.entry), value(b.entry), sorting.down) || compare(a.entry.name, b.entry.name, false));
    body.replaceChildren(...head, ...sorted.flatMap(({ row, panelRow }) => [row, panelRow]));
  }
  for (const heading of document.querySelectorAll("#board thead th")) {
    const mine = heading.dataset.key === sorting.key;
    heading.setAttribute("aria-sort", mine ? (sorting.down ? "descending" : "ascending") : "none");
  }
}

function filter() {
  const chosen = (id) => byId(id).value;
  const words = chosen("search").trim().toLowerCase().split(/\s+/).filter(Boolean);
  const bySize = (SIZES.find(([name]) => name === chosen("size")) || [])[1];
  let left = 0, all = 0;
  for (const { block, rows, body } of bodies) {
    const mine = ["domain", "regime", "mode"].every((name) => !chosen(name) || block[name] === chosen(name));
    let inBlock = 0;
    for (const { entry, row, panelRow, button } of rows) {
      const baseline = entry.kind === "baseline", text = `${entry.name} ${entry.where || ""}`.toLowerCase();
      const fits = mine && words.every((word) => text.includes(word)) && (baseline ? byId("baselines").checked
        : (!bySize || bySize(entry.model_parameters)) && (!chosen("status") || entry.status === chosen("status")));
      row.hidden = !fits;
      panelRow.hidden = !fits || button.getAttribute("aria-expanded") !== "true";
      inBlock += fits;
    }
    body.hidden = !inBlock;
    left += inBlock;
    all += rows.length;
  }
  byId("shown").textContent = `${left} of ${all} rows`;
  byId("empty").hidden = left > 0;
}

function start() {
  const headings = COLUMNS.map(([key, heading, , down]) => {
    const button = el("button", { type: "button" }, heading);
    button.addEventListener("click", () => {
      sorting.down = sorting.key === key ? !sorting.down : down;
      sorting.key = key;
      show();
    });
    return el("th", { scope: "col", role: "columnheader", class: key, "data-key": key }, button);
  });
  bodies.push(...BOARD.blocks.map(blockBody));
  byId("board").append(el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...headings)), ...bodies.map(({ body }) => body));
  const choices = (name) => [...new Set(BOARD.blocks.map((block) => block[name]))].sort();
  const lists = { domain: choices("domain"), regime: choices("regime"), mode: choices("mode"), size: SIZES.map(([name]) => name), status: STATUS };
  for (const [id, values] of Object.entries(lists)) {
    byId(id).append(el("option", { value: "" }, "all"), ...values.map((value) => el("option", { value }, value)));
  }
  byId("filters").addEventListener("input", filter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("rejected").hidden = !BOARD.rejected.length;
  byId("rejected").querySelector("h2").textContent = `Rejected: ${BOARD.n_rejected}`;
  byId("rejected").querySelector("ul").append(...BOARD.rejected.map((line) => el("li", {}, el("code", {}, line.where), ` rejected: ${line.reason}`)));
  byId("origin").textContent = `From ${BOARD.endpoint}, by hf_mirror. The same data for programs: board.json.`;
  show();
  filter();
}

start();
