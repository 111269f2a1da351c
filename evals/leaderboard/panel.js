"use strict";
// What a row shows when it is opened. A part whose data the results file lacks is left out, or says so.

const METRICS = [
  ["accuracy", "accuracy, %", percent],
  ["log_loss", "log-loss, nats", nats],
  ["expected_accuracy", "expected accuracy, %", percent],
  ["chance_centred_accuracy", "chance-centred accuracy, %", percent],
  ["brier", "Brier score", nats],
  ["mcfadden_r2_uniform", "McFadden R², against uniform", nats],
  ["mcfadden_r2_popularity", "McFadden R², against popularity", nats],
  ["accuracy_scored", "accuracy, scored rows only, %", percent],
  ["log_loss_scored", "log-loss, scored rows only", nats],
];

// What the benchmark's variants are in words; one that is not here is shown by its name.
const VARIANTS = {
  "none-full-random": "no history",
  "swapped:random-full-random": "history of a random user",
  "swapped:nearest-full-random": "history of a similar user",
  "swapped:random+profile-full-random": "history and profile of a random user",
  "own-titles_masked-random": "titles masked",
  "own-ids-random": "ids instead of texts",
};

// The order in which groups are read; others stand as they are in the file.
const ORDER = ["first", "<1h", "1h-1d", ">=1d", "few", "low", "middle", "many", "high"];

const pairs = (value) => Object.entries(value || {});

function part(title, ...children) {
  return el("section", { class: title.toLowerCase().split(" ")[0] }, el("h3", {}, title), ...children);
}

function table(head, rows, caption = null) {
  const cell = (value, i) => (i ? el("td", {}, value) : el("th", { scope: "row" }, value));
  return el("div", { class: "scroll" }, el("table", { class: "small" }, caption && el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell))))));
}

const facts = (rows) => el("dl", { class: "facts" }, ...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

const quiet = (words) => el("p", { class: "quiet" }, words);

function scoresPart(entry) {
  const rows = METRICS.filter(([key]) => entry.scores[key]).map(([key, name, show]) =>
    [name, show(entry.scores[key].value), between(entry.scores[key], show)]);
  return part("Scores", table(["metric", "value", "95 % interval"], rows));
}

function calibrationPart(entry) {
  const plots = pairs(entry.calibration).filter(([, of]) => (of.bins || []).length).map(([k, of]) =>
    el("figure", {}, reliability(of.bins, `reliability diagram, ${k} options`),
      el("figcaption", {}, `K = ${k}: ECE top-label ${percent(of.ece_top_label)} %, class-wise ${percent(of.ece_class_wise)} %`)));
  if (!plots.length) return null;
  const brier = pairs(entry.brier_decomposition).map(([k, of]) => [k, nats(of.reliability), nats(of.resolution), nats(of.uncertainty)]);
  return part("Calibration", el("div", { class: "plots" }, ...plots),
    brier.length ? table(["K", "reliability", "resolution", "uncertainty"], brier, "Brier score, decomposed") : null);
}

function positionPart(entry) {
  const of = entry.position;
  if (!of) return null;
  const plots = pairs(of.choice_share).filter(([, chosen]) => chosen.length).map(([k, chosen]) => {
    const truth = (of.truth_share || {})[k];
    const said = `K = ${k}: ` + chosen.map((share, i) => `${i + 1}: ${percent(share)}`).join(", ");
    return el("figure", {}, shares(chosen, truth && truth.length === chosen.length ? truth : null, said), el("figcaption", {}, `K = ${k}` +
      (of.ckld && isNumber(of.ckld[k]) ? `, CKLD ${nats(of.ckld[k])}` : "")));
  });
  return part("Position", el("div", { class: "plots" }, ...plots),
    plots.length ? quiet("Bars: share of choices per slot, in the random order. Ticks: share of truths. Dashed: 1/K.") : null,
    facts([["choice changes with the order", `${percent(of.flip_rate)} %`], ["the slot alone, in that order", `${percent(of.slot_accuracy)} %`]]));
}

function groupsPart(entry, block) {
  const dimensions = pairs(entry.groups).filter(([, groups]) => pairs(groups).length);
  if (!dimensions.length) return null;
  const all = dimensions.flatMap(([, groups]) => pairs(groups).map(([, of]) => of.accuracy));
  const scale = scaleOf(all, [block.chance.accuracy]);
  const body = dimensions.flatMap(([name, groups]) => {
    const worst = (entry.worst_group || {})[name];
    const gap = worst ? `worst: ${worst.group}, ${percent(worst.gap)} points behind the best` : "";
    const head = el("tr", {}, el("th", { colspan: 4, scope: "rowgroup" }, name.replace(/[_.]/g, " "), " ", el("small", {}, gap)));
    const place = ([group]) => ORDER.indexOf(group);
    return [head, ...pairs(groups).sort((one, other) => place(one) - place(other)).map(([group, of]) => el("tr", {}, el("th", { scope: "row" }, group),
      el("td", {}, percent((of.accuracy || {}).value)),
      el("td", { class: "line" }, of.accuracy ? whisker(of.accuracy, scale, block.chance.accuracy, between(of.accuracy, percent)) : NONE),
      el("td", {}, `${whole(of.n_scenes)} / ${whole(of.n_clusters)}`)))];
  });
  const head = ["group", "accuracy, %", "95 % interval", "scenes / users"].map((name) => el("th", { scope: "col" }, name));
  return part("Groups", el("div", { class: "scroll" }, el("table", { class: "small" }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body))));
}

function twinsPart(entry) {
  const twins = pairs(entry.twins);
  if (!twins.length) return null;
  const scales = ["accuracy", "log_loss"].map((key) => scaleOf(twins.map(([, of]) => of[key]), [0]));
  const rows = twins.map(([name, of]) => [el("span", { title: name }, Object.hasOwn(VARIANTS, name) ? VARIANTS[name] : name),
    ...[["accuracy", percent], ["log_loss", nats]].map(([key, show], i) => of[key]
      ? el("span", { class: "delta" }, show(of[key].value), whisker(of[key], scales[i], 0, between(of[key], show))) : NONE),
    isNumber(of.p_value) ? (of.p_value < 0.001 ? "< 0.001" : of.p_value.toFixed(3)) : NONE, whole(of.n_scenes)]);
  return part("Twins", quiet("The same scenes with another history, without one, or with other texts, minus the scene as it was, in the same order. " +
    "A model that reads the user loses by a stranger's history."), table(["variant", "Δ accuracy, points", "Δ log-loss", "p", "scenes"], rows));
}

function failuresPart(entry) {
  const rows = pairs(entry.failures).map(([reason, n]) => [reason, whole(n)]);
  return part("Failures and coverage", facts([["rows answered", `${percent(entry.coverage)} %`]]),
    rows.length ? table(["reason", "rows"], rows) : quiet(entry.failures ? "No row failed." : "Failures are not in the results file."));
}

function memorisedPart(entry) {
  const of = entry.memorised;
  return of ? part("Memorised", facts([["titles by id", `${percent(of.accuracy.value)} % (${between(of.accuracy, percent)}) of ${whole(of.n_items)} items`],
    ["chance", `${percent(of.chance)} %`]]), quiet("Asked without any user (mirror probe): above chance, the model has seen the publisher's files.")) : null;
}

function morePart(entry) {
  const said = pairs(entry.rationale).map(([name, value]) => [name.replace(/_/g, " "), name === "decisions" ? whole(value) : `${percent(value)} %`]);
  if (entry.popularity_lift) said.push(["popularity lift", `${percent(entry.popularity_lift.value)} (${between(entry.popularity_lift, percent)})`]);
  for (const [name, of] of pairs(entry.divergence)) said.push([`divergence of ${name}`, `JSD ${nats(of.jsd)}` + (isNumber(of.ks) ? `, KS ${nats(of.ks)}` : "")]);
  return said.length ? part(entry.rationale ? "Thoughts and tastes" : "Tastes", facts(said)) : null;
}

function originPart(entry, endpoint) {
  const lines = (entry.origin || []).map((line) => [line.what, line.href && line.href.startsWith(`${endpoint}/`) && /^https?:/.test(line.href)
    ? el("a", { href: line.href, rel: "noopener noreferrer nofollow" }, line.text) : line.text]);
  return part("Made from", lines.length ? facts(lines) : quiet("Computed from the benchmark's rows."), entry.where ? quiet(`read from ${entry.where}`) : null);
}

function panel(entry, block, endpoint) {
  const parts = [scoresPart(entry), calibrationPart(entry), positionPart(entry), groupsPart(entry, block), twinsPart(entry)];
  if (isNumber(entry.coverage)) parts.push(failuresPart(entry));
  return el("div", { class: "parts" }, ...parts, morePart(entry), memorisedPart(entry), originPart(entry, endpoint));
}
