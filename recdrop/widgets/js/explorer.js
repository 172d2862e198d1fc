// The explorer: trained LSTMs answer as a reader moves where and how strongly they are masked.

import { classProbabilities, dropout, run } from "./lstm.js";
import { moduleKey } from "./philox.js";
import { CLASSES, SYMBOLS, isRight, unpack, unpackSequences } from "./networks.js";
import { lineFactor, updateFactor } from "./theory.js";
import { wilson } from "./statistics.js";
import { html, watch, widget } from "./dom.js";
import { button, choice, set, slider } from "./controls.js";
import { drawCells, drawProbabilities } from "./heatmap.js";
import { counting } from "./counting.js";
import { strip } from "./sequence.js";
import { plot } from "./plot.js";

const VERSION = 1;
const SETTINGS = ["scheme", "per", "trained", "rate", "masked", "scaling", "length", "sequence", "draw"];
const NEEDS = ["networks", "sequences", "sequence", "scheme", "rate"];
const NAMES = { none: "no dropout", semeniuta: "own", gal: "Gal", moon: "Moon" };
const SITE = { semeniuta: "update", gal: "hidden", moon: "cell" };
const DROPPED = { semeniuta: "update", gal: "hidden state", moon: "cell state" };
const MASKED = {
  moon: "Masks on the cell state (Eq. 8).", gal: "Masks on the hidden state (Eq. 7).",
  semeniuta: "Masks on the update (Eq. 9).", none: "No recurrent dropout.",
};
const RATES = Array.from({ length: 19 }, (_, i) => i / 20);

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
const short = (v) => (Math.abs(v) >= 1e4 || (v && Math.abs(v) < 1e-3) ? v.toExponential(1) : v.toPrecision(3));

function render({ model, root }) {
  const networks = new Map();
  const tests = new Map();
  const get = (key) => model.get(key);

  // ---- what is computed -------------------------------------------------------------------

  function packed() {
    return get("networks").find((n) => n.scheme === get("scheme")
      && (n.scheme === "none" || (n.per === get("per") && n.rate === get("trained"))));
  }
  function network() {
    const name = packed().name;
    if (!networks.has(name)) networks.set(name, unpack(packed()));
    return networks.get(name);
  }
  function testsOf(length) {
    if (!tests.has(length)) tests.set(length, unpackSequences(get("sequences")[length], length));
    return tests.get(length);
  }
  const symbols = () => [...get("sequence")].map((letter) => SYMBOLS.indexOf(letter));
  const setting = (changes = {}) => ({
    scheme: get("scheme"), per: get("per"), trained: get("trained"), rate: get("rate"),
    masked: get("masked"), scaling: get("scaling"), draw: get("draw"), length: get("sequence").length, ...changes,
  });
  function sites({ scheme, per, rate, masked, scaling }) {
    const site = SITE[scheme];
    return dropout({ rates: site ? { [site]: rate } : {}, perStep: { [site]: per === "step" }, masked, scaling });
  }
  /** The name of a count: what does not matter to it is left out. */
  function keyOf(s) {
    const rate = s.scheme === "none" || (!s.masked && s.scaling === "inverted") ? 0 : s.rate;
    const drawn = s.masked && rate ? s.draw : "";
    return [packed().name, s.length, rate, rate ? s.masked : "", rate ? s.scaling : "", drawn].join();
  }
  const counts = counting(
    (job, row) => isRight(job.network, job.tests[row], job.sites, job.stream, row),
    (whole, idle) => {
      if (calm.matches && !idle && !whole) return;
      showAccuracy();
      if (whole) tell();
    });

  let shown = null; // all that is drawn, for whoever looks: tests read it from the element
  let selected = get("sequence").search(/[AB]/);
  let timer = null, frame = null, torch = null;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  function compute() {
    const s = setting(), net = network(), now = symbols(), key = moduleKey(s.draw);
    const trace = run(net, now, sites(s), key);
    // Colours and the order of units are those of this network under the masks of its training.
    const own = run(net, now, sites({ ...s, rate: s.trained, masked: true, scaling: "paper" }), key);
    const range = own.c.reduce((top, v) => Math.max(top, Math.abs(v)), 0);
    const last = own.c.subarray((now.length - 1) * net.units);
    const order = Array.from(last.keys()).sort((a, b) => last[b] - last[a] || a - b);
    const site = SITE[s.scheme];
    return {
      setting: s, symbols: now, trace, range, order, mask: site ? trace.masks[site] : null,
      largest: trace.c.reduce((top, v) => Math.max(top, Math.abs(v)), 0),
      probabilities: classProbabilities(net.readout, trace),
      fading: fading(trace, selected), theory: lineFactor(s), entering: updateFactor(s),
    };
  }

  /** What is left of the memory of step `from`, later: by the whole line, and by the gates alone. */
  function fading({ steps, units, c, line, forget }, from) {
    const weights = c.slice(from * units, from * units + units).map(Math.abs);
    const total = weights.reduce((a, b) => a + b, 0) || 1;
    const kept = new Float64Array(units).fill(1), gated = new Float64Array(units).fill(1);
    const left = [1], gates = [1];
    for (let t = from + 1; t < steps; t++) {
      let a = 0, b = 0;
      for (let j = 0; j < units; j++) {
        a += weights[j] * (kept[j] *= line[t * units + j]);
        b += weights[j] * (gated[j] *= forget[t * units + j]);
      }
      left.push(a / total);
      gates.push(b / total);
    }
    return { left, gates };
  }

  // ---- the controls -----------------------------------------------------------------------

  const rates = [...new Set(get("networks").filter((n) => n.rate).map((n) => n.rate))].sort();
  const scheme = choice(model, "scheme", "Scheme", [
    ["moon", "Moon", "masks on the cell state, Eq. 8"], ["gal", "Gal", "masks on the hidden state, Eq. 7"],
    ["semeniuta", "own", "masks on the update, Eq. 9"], ["none", "none", "no recurrent dropout"],
  ]);
  const per = choice(model, "per", "Masks per", [["sequence", "sequence"], ["step", "step"]]);
  const trained = choice(model, "trained", "Trained with rate", rates.map((r) => [r, r.toFixed(2)]));
  const rate = slider(model, "rate", "Evaluated at rate", { min: 0, max: 0.9, step: 0.05, format: (v) => v.toFixed(2) });
  const phase = choice(model, "masked", "Phase", [[false, "evaluation"], [true, "training masks"]]);
  const scaling = choice(model, "scaling", "Factors by", [
    ["paper", "Eq. 3 (trained)", "the convention of its training"],
    ["inverted", "Eq. 14", "other factors on the same weights"],
  ]);
  const length = choice(model, "length", "Symbols", Object.keys(get("sequences")).map((n) => [Number(n), n]));
  const redraw = button("New masks", "Draw other masks", () => set(model, "draw", get("draw") + 1), "draw");
  const another = button("Another sequence", "Show the next test sequence", () => example(1), "another");

  const facts = html("p", { class: "rd-facts" });
  const meaning = html("p", { class: "rd-meaning" });
  const symbolsStrip = strip(
    (t) => {
      selected = t;
      schedule();
    },
    (t, symbol) => {
      const now = [...get("sequence")];
      now[t] = SYMBOLS[symbol];
      set(model, "sequence", now.join(""));
    });
  const cells = html("canvas", { class: "rd-cells", role: "img" });
  const rows = html("canvas", { class: "rd-rows", role: "img" });
  const answers = html("ol", { class: "rd-answers" });
  const legend = html("div", { class: "rd-legend" });
  const accuracy = html("div", { class: "rd-accuracy" });
  const accuracyChart = html("div", { class: "rd-chart" });
  const fadingTitle = html("h4");
  const fadingChart = html("div", { class: "rd-chart" });
  const fadingText = html("p", { class: "rd-small" });
  const clock = html("p", { class: "rd-clock" });
  const summary = html("p", { class: "rd-summary", "aria-live": "polite", role: "status" });

  root.classList.add("rd-explorer");
  root.append(
    html("div", { class: "rd-controls" },
      html("section", { class: "rd-group", "aria-label": "The trained network" },
        html("h4", {}, "A trained network"), scheme.element, per.element, trained.element, facts),
      html("section", { class: "rd-group", "aria-label": "How it is run now" },
        html("h4", {}, "How it is run now"), rate.element, phase.element, scaling.element, meaning)),
    html("div", { class: "rd-row" }, length.element, another, redraw),
    html("div", { class: "rd-figure" },
      html("div", { class: "rd-over-time" },
        html("h4", {}, "Sequence"), symbolsStrip.element, symbolsStrip.editor,
        html("h4", {}, "Cell state ", html("i", {}, "c"), " of each unit, step by step"), cells, legend,
        html("h4", {}, "Its answer, were the sequence to end there"),
        html("div", { class: "rd-probabilities" }, answers, rows), summary, clock),
      html("div", { class: "rd-aside" },
        html("h4", {}, "Accuracy"), accuracy, accuracyChart,
        html("p", { class: "rd-small" }, "Dashed: guessing, 25 %, and the rate of training."), fadingTitle, fadingChart, fadingText)));
  for (const canvas of [cells, rows]) {
    canvas.addEventListener("click", (event) => {
      const t = geometry().at(event.offsetX);
      selected = t;
      schedule();
    });
  }

  function example(step) {
    const all = testsOf(get("length"));
    const now = get("sequence");
    const found = all.findIndex((row) => row.map((s) => SYMBOLS[s]).join("") === now);
    const next = all[(found + step + all.length) % all.length].map((s) => SYMBOLS[s]).join("");
    selected = next.search(/[AB]/);
    set(model, "sequence", next);
  }

  // ---- the drawing ------------------------------------------------------------------------

  function geometry() {
    const margin = 34;
    const width = Math.max(220, Math.floor(cells.parentElement.clientWidth));
    const T = get("sequence").length;
    const left = (t) => Math.round(margin + (t * (width - margin)) / T);
    return { width, left, at: (x) => Math.max(0, Math.min(T - 1, Math.floor(((x - margin) * T) / (width - margin)))) };
  }

  function draw() {
    const begun = performance.now();
    selected = Math.max(0, Math.min(get("sequence").length - 1, selected));
    shown = compute();
    const { setting: s, trace, probabilities } = shown;
    const { width, left } = geometry();
    const common = { left, width, selected };
    shown.truth = symbolsStrip.show(shown.symbols, selected, left, width);
    drawCells(cells, { ...common, values: trace.c, units: trace.units, steps: trace.steps, order: shown.order,
      range: shown.range, mask: shown.mask, height: width < 420 ? 192 : 256 });
    drawProbabilities(rows, { ...common, probabilities, height: 72 });
    const end = probabilities.at(-1);
    shown.answer = CLASSES[end.indexOf(Math.max(...end))];
    answers.replaceChildren(...CLASSES.map((name, n) => html("li",
      { class: name === shown.truth ? "rd-true" : "", "aria-label": `${name}: ${percent(end[n])} at the end` }, name)));
    cells.setAttribute("aria-label", `Heat map of ${trace.units} units over ${trace.steps} steps; largest value ${short(shown.largest)}, under its own training masks ${short(shown.range)}`);
    rows.setAttribute("aria-label", `Class probabilities at the last step: ${CLASSES.map((name, n) => `${name} ${percent(end[n])}`).join(", ")}`);
    showControls();
    showFading();
    enqueue();
    showAccuracy();
    shown.milliseconds = performance.now() - begun;
    clock.textContent = `Computed and redrawn in ${shown.milliseconds.toFixed(1)} ms in this page.`;
    root.recdrop = { shown, count: () => counts.get(keyOf(setting())), torch: () => torch };
    root.dataset.drawn = String(Number(root.dataset.drawn ?? 0) + 1);
    clearTimeout(timer);
    timer = setTimeout(() => {
      tell();
      ask();
    }, 250);
  }

  function showControls() {
    const s = shown.setting, n = packed(), dropped = s.scheme !== "none";
    for (const control of [per, trained, rate, scaling, phase]) control.enable(dropped);
    redraw.disabled = !shown.mask;
    const learned = `${percent(n.train)} right ${dropped ? "with its masks" : "in training"}, ${percent(n.test)} at the test on ${n.tested.toLocaleString("en")} sequences`;
    facts.textContent = `${MASKED[s.scheme]} LSTM of ${n.units} units, trained on sequences of ${n.length} under Eq. 3 (${n.protocol}, seed ${n.seed}, ${n.epoch} epochs): ${learned}.`;
    facts.title = n.name;
    const q = 1 - s.rate, fixed = (v) => v.toFixed(2);
    const often = s.scheme === "moon" ? " at every step" : "";
    meaning.textContent = !dropped
      ? "Without dropout there is no rate to evaluate at, and both phases are the same."
      : s.scaling === "paper"
        ? s.masked
          ? `Units of the ${DROPPED[s.scheme]} are dropped with probability ${fixed(s.rate)}; kept ones stay as they are.`
          : `No masks: the ${DROPPED[s.scheme]} is multiplied by 1 − p = ${fixed(q)}${often}.`
        : s.masked
          ? `The weights learned under Eq. 3, with factors they never met: kept units of the ${DROPPED[s.scheme]} are multiplied by 1/(1 − p) = ${fixed(1 / q)}${often}. Not a network trained under Eq. 14.`
          : "The weights learned under Eq. 3 with no mask and no factor, whatever the rate. Not a network trained under Eq. 14.";
    legend.replaceChildren(
      html("span", {}, `−${short(shown.range)}`), html("span", { class: "rd-gradient" }), html("span", {}, `+${short(shown.range)}, square-root scale`),
      html("span", { class: "rd-key" }, shown.mask ? html("span", { class: "rd-mark" }) : null,
        shown.mask ? ` dropped (${DROPPED[s.scheme]})` : s.masked && dropped ? "nothing is dropped" : "no masks"),
      html("span", { class: "rd-key" }, `largest here: ${short(shown.largest)}`));
  }

  function enqueue() {
    const s = shown.setting;
    const jobs = [s, ...RATES.filter((r) => r !== s.rate && s.scheme !== "none").map((r) => ({ ...s, rate: r }))];
    counts.run(jobs.map((job) => ({
      key: keyOf(job), rows: testsOf(job.length).length, tests: testsOf(job.length), network: network(), sites: sites(job),
      stream: moduleKey(job.draw),
    })));
  }

  function showAccuracy() {
    const s = setting(), now = counts.get(keyOf(s));
    const width = Math.max(220, accuracyChart.clientWidth);
    const chart = plot({
      width, height: 170,
      x: { min: 0, max: Math.max(0.9, s.rate), ticks: [0, 0.25, 0.5, 0.75].map((v) => [v, String(v)]), label: "evaluated at rate" },
      y: { min: 0, max: 1, ticks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, `${100 * v} %`]) },
    });
    chart.horizontal(0.25, "rd-chance");
    if (s.scheme !== "none") chart.vertical(s.trained, "rd-trained");
    let before = null; // lines join neighbours alone: nothing is drawn where nothing was counted
    for (const r of RATES) {
      const found = counts.get(keyOf({ ...s, rate: r }));
      const point = found?.n && found.n === found.rows ? [r, found.hits / found.n] : null;
      if (point) chart.dot(...point, `rd-${s.scheme}`, 2);
      if (point && before) chart.line([before, point], `rd-${s.scheme} rd-thin`);
      before = point;
    }
    accuracy.replaceChildren();
    if (now?.n) {
      const share = now.hits / now.n, [low, high] = wilson(now.hits, now.n);
      chart.interval(s.rate, low, high, `rd-${s.scheme}`);
      chart.dot(s.rate, share, `rd-${s.scheme}`, 5);
      accuracy.append(html("strong", {}, percent(share)),
        html("span", {}, ` of ${now.n} test sequences${now.n < now.rows ? " so far" : ""}; 95 % interval ${(100 * low).toFixed(1)} to ${percent(high)}`));
    }
    if (torch && torch.key === keyOf(s) + get("sequence")) {
      chart.dot(s.rate, torch.hits / torch.n, "rd-torch", 8);
      accuracy.append(html("span", { class: "rd-agrees" }, torch.text));
    }
    accuracyChart.replaceChildren(chart.root);
    root.dataset.accuracy = now ? `${now.hits}/${now.n}` : "";
  }

  function showFading() {
    const { fading: measured, theory, setting: s } = shown;
    const steps = s.length - 1 - selected;
    const expected = Array.from({ length: steps + 1 }, (_, n) => theory.factor ** n);
    shown.expected = expected;
    const values = [...measured.left, ...measured.gates, ...expected].filter((v) => v > 0 && Number.isFinite(v));
    const low = Math.max(-6, Math.min(-1, Math.floor(Math.log10(Math.min(...values)))));
    const high = Math.min(12, Math.max(0, Math.ceil(Math.log10(Math.max(...values)) - 1e-9)));
    const every = Math.ceil((high - low) / 6);
    const decades = [];
    for (let d = low; d <= high; d++) if (d % every === 0) decades.push([10 ** d, d >= -2 && d <= 2 ? String(Number((10 ** d).toFixed(2))) : `1e${d}`]);
    const stride = Math.max(1, Math.ceil(steps / 6));
    const chart = plot({
      width: Math.max(220, fadingChart.clientWidth), height: 180,
      x: { min: 0, max: Math.max(1, steps), ticks: Array.from({ length: Math.floor(steps / stride) + 1 }, (_, i) => [i * stride, String(i * stride)]), label: "steps later" },
      y: { min: 10 ** low, max: 10 ** high, log: true, ticks: decades },
    });
    const points = (line) => line.map((v, n) => [n, v]);
    const left = measured.left.at(-1) ? short(measured.left.at(-1)) : "nothing";
    chart.line(points(expected), `rd-${s.scheme} rd-theory`, theory.equation);
    chart.line(points(measured.gates), "rd-gates", "forget gates alone");
    chart.line(points(measured.left), "rd-measured", "measured");
    measured.left.forEach((v, n) => chart.dot(n, v, "rd-measured", 2));
    fadingTitle.textContent = `What is left of the memory of step ${selected + 1}`;
    fadingChart.replaceChildren(chart.root);
    const key = (kind, text) => html("span", { class: "rd-key" }, html("span", { class: `rd-swatch ${kind}` }), ` ${text}`);
    fadingText.replaceChildren(
      key("rd-measured", "measured"), key("rd-gates", "forget gates alone"),
      key(`rd-${s.scheme} rd-theory`, `${theory.equation}, gates of 1: ${theory.what}`),
      ...(steps ? [html("span", {}, `At the end ${left} is left; by ${theory.equation} ${short(expected.at(-1))}, by the gates ${short(measured.gates.at(-1))}.`
        + (shown.entering < 1 ? ` New updates enter with the weight ${shown.entering.toFixed(2)}${s.scheme === "semeniuta" ? " (Eq. 15)" : ""}.` : ""))] : [html("span", {}, "Choose an earlier step to follow its memory.")]));
  }

  /** The state in a sentence, once it has settled. */
  function tell() {
    const s = shown.setting, now = counts.get(keyOf(s));
    const what = s.scheme === "none" ? "Without dropout" : `${NAMES[s.scheme]}, trained at ${s.trained} per ${s.per}, ${s.masked ? "with masks" : "in evaluation"} at rate ${s.rate.toFixed(2)} under ${s.scaling === "paper" ? "Eq. 3" : "Eq. 14"}`;
    const end = Math.max(...shown.probabilities.at(-1));
    const verdict = shown.truth ? (shown.answer === shown.truth ? "which is right" : `but the class is ${shown.truth}`) : "but this sequence has no class: it takes one A or B in the first third, one in the second, no more";
    const counted = now && now.n === now.rows;
    const rate = counted ? ` Right on ${percent(now.hits / now.n)} of ${now.n} test sequences.` : "";
    const text = `${what[0].toUpperCase()}${what.slice(1)}: the answer is ${shown.answer} (${percent(end)}), ${verdict}.${rate}`;
    if (summary.textContent !== text) summary.textContent = text;
  }

  // ---- Python, where there is one ----------------------------------------------------------

  function ask() {
    // A message may overtake the settings on their way to Python: so it says which it is about.
    const settings = Object.fromEntries(SETTINGS.map((name) => [name, get(name)]));
    model.send({ ask: "torch", key: keyOf(setting()) + get("sequence"), settings });
  }
  function answered(message, buffers) {
    if (frame !== null || message.key !== keyOf(setting()) + get("sequence")) return; // moved on
    const floats = buffers.map((b) => new Float64Array(b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength)));
    const [states, probabilities] = floats;
    const apart = (a, b, scale) => a.reduce((top, v, i) => Math.max(top, Math.abs(v - b[i]) / scale), 0);
    const difference = Math.max(apart(shown.trace.c, states, Math.max(1, shown.largest)), apart(shown.probabilities.flat(), probabilities, 1));
    torch = { ...message, difference, text: "" };
    torch.text = difference <= 1e-6
      ? `torch ${message.version} agrees to ${difference < 1e-15 ? "1e-15" : difference.toExponential(0)}: recdrop.LSTM finds ${message.hits} of ${message.n}`
      : `torch ${message.version} differs by ${difference.toExponential(1)}: recdrop.LSTM finds ${message.hits} of ${message.n}`;
    root.dataset.torch = String(difference);
    showAccuracy();
  }

  function schedule() {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      draw();
    });
  }
  for (const key of ["scheme", "per", "trained", "rate", "masked", "scaling", "draw", "sequence"]) {
    model.on(`change:${key}`, schedule);
  }
  model.on("change:length", () => { // a sequence from Python comes before its length
    if (get("length") !== get("sequence").length) example(1);
    schedule();
  });
  model.on("msg:custom", answered);
  const unwatch = watch(root, schedule);
  schedule();
  return () => {
    unwatch();
    counts.stop();
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
}

export default widget(VERSION, NEEDS, render);
