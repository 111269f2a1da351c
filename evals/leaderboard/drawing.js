"use strict";
// Elements, numbers and drawings. Data become text nodes and attributes here, never markup.

const SVG = "http://www.w3.org/2000/svg";
const NONE = "–";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const fixed = (value, factor, digits) => (isNumber(value) ? (value * factor).toFixed(digits).replace(/^-/, "−") : NONE);
const percent = (value) => fixed(value, 100, 1);
const nats = (value) => fixed(value, 1, 3);
const whole = (value) => (isNumber(value) ? value.toLocaleString("en") : NONE);

// "20.1 – 24.3", or a dash where there is no interval.
function between(score, show) {
  return score && isNumber(score.low) && isNumber(score.high) ? `${show(score.low)} – ${show(score.high)}` : NONE;
}

// The scale that all whiskers of a group share. `most` is where it ends at the latest.
function scaleOf(scores, marks, most = Infinity) {
  const ends = scores.filter(Boolean).flatMap((score) => [score.value, score.low, score.high]).concat(marks);
  const known = ends.filter(isNumber);
  let low = Math.min(...known), high = Math.max(...known);
  if (high > most) high = Math.max(most, low);
  const room = (high - low) * 0.05 || 0.05;
  return { low: low - room, high: high + room, at: (value) => (100 * (value - (low - room))) / (high - low + 2 * room) };
}

// An interval as a line with a dot, on the group's scale; `mark` is drawn dashed (chance, or no difference).
function whisker(score, scale, mark, says, hollow = false) {
  const inside = (value) => Math.min(Math.max(scale.at(value), 0), 100);
  const parts = [];
  if (isNumber(mark)) {
    const x = `${inside(mark).toFixed(2)}%`;
    parts.push(draw("line", { class: "chance", x1: x, x2: x, y1: 0, y2: 16 }));
  }
  if (isNumber(score.low) && isNumber(score.high)) {
    const [low, high] = [inside(score.low), inside(score.high)].map((x) => `${x.toFixed(2)}%`);
    parts.push(draw("line", { class: "interval", x1: low, x2: high, y1: 8, y2: 8 }));
    for (const [x, there] of [[low, score.low >= scale.low], [high, score.high <= scale.high]]) {
      if (there) parts.push(draw("line", { class: "interval", x1: x, x2: x, y1: 4, y2: 12 }));
    }
  }
  const x = `${inside(score.value).toFixed(2)}%`;
  if (score.value <= scale.high) parts.push(draw("circle", { class: hollow ? "dot hollow" : "dot", cx: x, cy: 8, r: 3.5 }));
  if (score.value > scale.high || score.high > scale.high) {
    parts.push(draw("text", { class: "more", x: "100%", y: 12, "text-anchor": "end" }, "▸"));
  }
  return draw("svg", { class: "whisker", role: "img", "aria-label": says, width: "100%", height: 16 }, ...parts);
}

// Confidence across, accuracy up; a calibrated model's dots lie on the diagonal. Dots grow with their scenes.
function reliability(bins, says) {
  const size = 200, foot = 18, most = Math.max(...bins.map((bin) => bin.scenes || 0), 1);
  const parts = [0, 0.25, 0.5, 0.75, 1].map((y) =>
    draw("line", { class: "grid", x1: 0, x2: size, y1: size * (1 - y), y2: size * (1 - y) }));
  parts.push(draw("line", { class: "chance", x1: 0, y1: size, x2: size, y2: 0 }));
  const known = bins.filter((bin) => isNumber(bin.confidence) && isNumber(bin.accuracy));
  parts.push(draw("polyline", { class: "path", points: known.map((b) => `${size * b.confidence},${size * (1 - b.accuracy)}`).join(" ") }));
  for (const bin of known) {
    const tip = `confidence ${percent(bin.confidence)} %, accuracy ${percent(bin.accuracy)} %, ${whole(bin.scenes)} scenes`;
    const at = { cx: size * bin.confidence, cy: size * (1 - bin.accuracy), r: 2 + 4 * Math.sqrt((bin.scenes || 0) / most) };
    parts.push(draw("circle", { class: "dot", ...at }, draw("title", {}, tip)));
  }
  for (const [x, anchor, words] of [[0, "start", "0"], [size / 2, "middle", "confidence, %"], [size, "end", "100"]]) {
    parts.push(draw("text", { x, y: size + 14, "text-anchor": anchor }, words));
  }
  parts.push(draw("text", { x: 4, y: 12 }, "accuracy, %"));
  return draw("svg", { class: "plot", role: "img", "aria-label": says, viewBox: `-6 -6 ${size + 12} ${size + foot + 8}` }, ...parts);
}

// Bars of what was chosen per slot, a tick where the truth stands, and 1/K dashed.
function shares(chosen, truth, says) {
  const height = 90, slot = 34, width = slot * chosen.length;
  const top = Math.max(...chosen, ...(truth || []), 1 / chosen.length) * 1.08;
  const y = (share) => height * (1 - share / top);
  const parts = [];
  chosen.forEach((share, i) => {
    const tip = `slot ${i + 1}: chosen ${percent(share)} %` + (truth ? `, truth ${percent(truth[i])} %` : "");
    parts.push(draw("rect", { class: "bar", x: slot * i + 5, width: slot - 10, y: y(share), height: height - y(share) },
      draw("title", {}, tip)));
    if (truth && isNumber(truth[i])) {
      parts.push(draw("line", { class: "truth", x1: slot * i + 2, x2: slot * (i + 1) - 2, y1: y(truth[i]), y2: y(truth[i]) }));
    }
    parts.push(draw("text", { x: slot * (i + 0.5), y: height + 14, "text-anchor": "middle" }, String(i + 1)));
  });
  parts.push(draw("line", { class: "chance", x1: 0, x2: width, y1: y(1 / chosen.length), y2: y(1 / chosen.length) }));
  parts.push(draw("line", { class: "axis", x1: 0, x2: width, y1: height, y2: height }));
  return draw("svg", { class: "plot", role: "img", "aria-label": says, viewBox: `-2 -4 ${width + 4} ${height + 22}`, width: Math.min(width + 4, 320) },
    ...parts);
}
