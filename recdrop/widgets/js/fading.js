// The fading of a memory in a cell whose gates are all 1: Eqs. 13 and 15 as lines, the real cell's
// arithmetic as dots.

import { dropout, run } from "./lstm.js";
import { moduleKey } from "./philox.js";
import { predicted } from "./theory.js";
import { html, watch, widget } from "./dom.js";
import { button, choice, set, slider } from "./controls.js";
import { plot } from "./plot.js";

const VERSION = 1;
const NEEDS = ["scheme", "rate", "steps", "start", "update"];
const SITE = { semeniuta: "update", gal: "hidden", moon: "cell" };
const NAMES = { semeniuta: "own", gal: "Gal", moon: "Moon" };
const DRAWS = 400, SINGLE = 6;

const figure = (v) => (v === 0 ? "0" : Math.abs(v) >= 1e4 || Math.abs(v) < 1e-3 ? v.toExponential(2) : v.toPrecision(4));

/** Ticks of a linear axis, at most six. */
function ticks(min, max) {
  const raw = (max - min) / 5, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= raw);
  const out = [];
  for (let n = Math.ceil(min / step); n * step <= max * (1 + 1e-9); n++) {
    const value = Number((n * step).toPrecision(6));
    out.push([n * step, value >= 1e5 ? value.toExponential().replace("+", "") : String(value)]);
  }
  return out;
}

function decades(min, max) {
  const [a, b] = [min, max].map((v) => Math.round(Math.log10(v)));
  const every = Math.max(1, Math.ceil((b - a) / 6)), out = [];
  for (let d = a; d <= b; d++) {
    if (d % every === 0) out.push([10 ** d, d >= -2 && d <= 3 ? String(Number((10 ** d).toFixed(2))) : `1e${d}`]);
  }
  return out;
}

function render({ model, root }) {
  const get = (key) => model.get(key);
  const controls = {
    scheme: choice(model, "scheme", "Scheme", [["moon", "Moon"], ["gal", "Gal"], ["semeniuta", "own"]]),
    rate: slider(model, "rate", "Rate p", { min: 0, max: 0.9, step: 0.05, format: (v) => v.toFixed(2) }),
    steps: slider(model, "steps", "Steps", { min: 5, max: 100, step: 5, format: String }),
    update: slider(model, "update", "Update g", { min: 0, max: 0.9, step: 0.1, format: (v) => v.toFixed(1) }),
    masked: choice(model, "masked", "Phase", [[false, "evaluation"], [true, "training masks"]]),
    scaling: choice(model, "scaling", "Convention", [["paper", "Eq. 3"], ["inverted", "Eq. 14"]]),
    per: choice(model, "per", "Masks per", [["sequence", "sequence"], ["step", "step"]]),
    log: choice(model, "log", "Axis", [[false, "linear"], [true, "logarithmic"]]),
  };
  const redraw = button("New masks", "Draw other masks", () => set(model, "draw", get("draw") + 1), "draw");
  const chart = html("div", { class: "rd-chart" });
  const key = html("p", { class: "rd-small rd-inline" });
  const equation = html("p", { class: "rd-equation" });
  const summary = html("p", { class: "rd-summary", role: "status", "aria-live": "polite" });
  const heading = html("h4");
  root.classList.add("rd-fading");
  root.append(
    html("div", { class: "rd-controls" },
      html("section", { class: "rd-group", "aria-label": "Dropout" }, controls.scheme.element, controls.rate.element,
        controls.scaling.element, controls.masked.element, controls.per.element),
      html("section", { class: "rd-group", "aria-label": "Cell" }, controls.steps.element, controls.update.element,
        controls.log.element, html("div", { class: "rd-row" }, redraw))),
    heading, chart, key, equation, summary);

  const setting = () => ({
    scheme: get("scheme"), rate: get("rate"), per: get("per"), masked: get("masked"), scaling: get("scaling"),
    steps: get("steps"), start: get("start"), update: get("update"),
  });

  /** The cell over time (steps) in each of `rows` draws: weights 0, biases that force the gates to 1. */
  function measured(s, rows) {
    const site = SITE[s.scheme], q = s.update;
    const cell = {
      units: 1, inputs: 1, ih: new Float64Array(4), hh: new Float64Array(4),
      bias: Float64Array.of(30, 30, Math.atanh(q), 30),
    };
    const sites = dropout({ rates: { [site]: s.rate }, perStep: { [site]: s.per === "step" }, masked: s.masked, scaling: s.scaling });
    const x = new Array(s.steps).fill(0), stream = moduleKey(get("draw"));
    return Array.from({ length: rows }, (_, row) => run(cell, x, sites, stream, row, null, Float64Array.of(s.start)).c);
  }

  function draw() {
    const s = setting();
    const rows = measured(s, s.masked ? DRAWS : 1);
    const mean = Array.from({ length: s.steps }, (_, t) => rows.reduce((sum, c) => sum + c[t], 0) / rows.length);
    const lines = Object.fromEntries(Object.keys(SITE).map((scheme) => [scheme, predicted({ ...s, scheme })]));
    const theory = lines[s.scheme];
    const log = get("log");
    const single = s.masked ? rows.slice(0, SINGLE) : [];
    const all = [s.start, ...mean, ...Object.values(lines).flat(), ...single.flatMap((c) => [...c])].filter((v) => v > 0);
    const low = log ? 10 ** Math.max(-8, Math.floor(Math.log10(Math.min(...all)))) : 0;
    const top = Math.max(...all);
    const max = log ? 10 ** Math.max(0, Math.ceil(Math.log10(top) - 1e-9)) : 1.08 * top;
    const stride = Math.max(1, Math.ceil(s.steps / 6 / 5) * 5);
    const picture = plot({
      width: Math.max(240, chart.clientWidth), height: 260, left: 54,
      x: { min: 0, max: s.steps, ticks: Array.from({ length: Math.floor(s.steps / stride) + 1 }, (_, i) => [i * stride, String(i * stride)]), label: "steps" },
      y: { min: low, max, log, ticks: log ? decades(low, max) : ticks(0, max) },
    });
    const points = (line) => [[0, s.start], ...line.map((v, t) => [t + 1, v])];
    for (const scheme of Object.keys(SITE)) {
      if (scheme !== s.scheme) picture.line(points(lines[scheme]), `rd-${scheme} rd-other`, NAMES[scheme]);
    }
    picture.line(points(theory), `rd-${s.scheme} rd-theory`);
    for (const c of single) picture.line(points(Array.from(c)), "rd-single");
    points(mean).forEach(([t, v]) => picture.dot(t, v, `rd-${s.scheme}`, s.steps > 50 ? 2 : 3));
    chart.replaceChildren(picture.root);

    const item = (kind, text) => html("span", { class: "rd-key" }, html("span", { class: `rd-swatch ${kind}` }), ` ${text}`);
    const others = Object.keys(SITE).filter((scheme) => scheme !== s.scheme);
    key.replaceChildren(
      item(`rd-${s.scheme} rd-theory`, `${NAMES[s.scheme]}: ${number(s)}${s.masked ? ", expectation" : ""}`),
      item(`rd-${s.scheme} rd-dots`, s.masked ? `the cell itself, mean of ${DRAWS} draws` : "the cell itself"),
      ...(s.masked ? [item("rd-single", `${SINGLE} of the draws`)] : []),
      ...others.map((scheme) => item(`rd-${scheme} rd-other`, `${NAMES[scheme]}, for comparison`)));
    equation.textContent = worked(s, theory);
    heading.textContent = `The cell state, from a memory of ${s.start}`;
    controls.per.enable(s.masked);
    redraw.disabled = !s.masked;
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", `Cell state over ${s.steps} steps, from ${s.start} to ${figure(mean.at(-1))}`);
    const gap = Math.max(...mean.map((v, t) => Math.abs(v - theory[t]) / Math.max(1, Math.abs(theory[t]))));
    root.recdrop = { shown: { setting: s, mean, theory, rows, gap } };
    root.dataset.drawn = String(Number(root.dataset.drawn ?? 0) + 1);
    clearTimeout(timer);
    timer = setTimeout(() => {
      const where = s.masked ? `with masks per ${s.per}` : "in evaluation";
      summary.textContent = `${NAMES[s.scheme]} ${where} at rate ${s.rate.toFixed(2)} under ${s.scaling === "paper" ? "Eq. 3" : "Eq. 14"}: after ${s.steps} steps the cell holds ${figure(mean.at(-1))}${s.masked ? ` on average over ${DRAWS} draws` : ""}; ${number(s)} says ${figure(theory.at(-1))}${s.masked ? " in expectation" : gap < 1e-9 ? ", the same to nine digits" : ""}.${rare(s)}`;
    }, 250);
  }

  /** Why a mean of draws may lie far from its expectation: it rests on few of them. */
  function rare({ scheme, rate, per, masked, scaling, steps }) {
    const kept = (1 - rate) ** steps;
    if (scheme !== "moon" || !masked || per !== "step" || scaling !== "inverted" || kept * DRAWS > 20) return "";
    return ` A memory survives ${steps} masks with probability ${figure(kept)} and is then worth ${figure(1 / kept)} of itself: ${DRAWS} draws say little of such an expectation.`;
  }
  const EQUATION = { moon: "Eq. 13", semeniuta: "Eq. 15", gal: "Eq. 5 with open gates" };
  const number = (s) => EQUATION[s.scheme] + (s.scaling === "inverted" ? " under Eq. 14" : "");

  /** The equation with the numbers of the moment. */
  function worked({ scheme, rate, per, masked, scaling, steps: n, start, update }, theory) {
    const digits = (v) => String(Number(v.toPrecision(6))); // any that Python may set; 0.1 + 0.2 is 0.3
    const q = digits(1 - rate), g = digits(update), result = figure(theory.at(-1));
    start = digits(start);
    if (scheme === "gal") return `c${sub(n)} = ${start}${update ? ` + ${n} · ${g}` : ""} = ${result}: the masks stand on what the gates read, and gates forced to 1 heed nothing that they read.`;
    const sure = masked ? "expected " : "";
    const plus = (sum) => (update ? ` + ${g} · (${sum})` : "");
    if (scheme === "semeniuta") {
      const weight = scaling === "inverted" ? "" : ` · ${q}`;
      return `${sure}c${sub(n)} = ${start}${update ? ` + ${n}${weight} · ${g}` : ""} = ${result}${update ? "" : ": nothing stands on the line of memory"}`;
    }
    if (masked && per === "sequence") {
      const r = scaling === "inverted" ? `(1/${q})` : "1";
      return `a kept unit: ${r}${sup(n)} · ${start}${plus(`${r} + … + ${r}${sup(n)}`)}; a share of ${q} is kept: expected c${sub(n)} = ${result}`;
    }
    const r = scaling === "inverted" ? "1" : String(q);
    return `${sure}c${sub(n)} = ${r}${sup(n)} · ${start}${plus(`${r} + ${r}² + … + ${r}${sup(n)}`)} = ${result}`;
  }
  const script = (n, digits) => [...String(n)].map((d) => digits[d]).join("");
  const sup = (n) => script(n, "⁰¹²³⁴⁵⁶⁷⁸⁹");
  const sub = (n) => script(n, "₀₁₂₃₄₅₆₇₈₉");

  let frame = null, timer = null;
  const schedule = () => {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      draw();
    });
  };
  for (const name of ["scheme", "rate", "steps", "start", "update", "masked", "scaling", "per", "log", "draw"]) {
    model.on(`change:${name}`, schedule);
  }
  const unwatch = watch(root, schedule);
  schedule();
  return () => {
    unwatch();
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
}

export default widget(VERSION, NEEDS, render);
