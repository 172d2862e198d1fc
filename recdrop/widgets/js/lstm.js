// An LSTM with recurrent dropout, Eqs. 4 to 9, forward: recdrop/cells.py's lstm for one row.

import { LEVELS, kept, threshold } from "./philox.js";

export const SITES = ["update", "hidden", "cell"];

/**
 * What a pass does at the three sites.
 *
 * rates and perStep are objects by site; masked says whether masks are drawn (training) or not
 * (evaluation), scaling "paper" is Eq. 3 and "inverted" Eq. 14.
 */
export function dropout({ rates, perStep = {}, masked, scaling }) {
  return SITES.map((site) => {
    const level = threshold(rates[site] ?? 0);
    const keep = 1 - level / LEVELS;
    const scale = scaling === "inverted" ? (masked ? 1 / keep : 1) : masked ? 1 : keep;
    return { site, level: masked ? level : 0, scale, perStep: Boolean(perStep[site]) };
  });
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/**
 * The states over time.
 *
 * weights: { units, inputs, ih (4H, I), hh (4H, H), bias (4H) }, gates in torch.nn's order i, f, g,
 * o. x: (T, I), or the T indices of one-hot inputs. sites: of dropout(). key: of the mask stream.
 * Returns steps, units, and (T, H) each: h, c, forget (the forget gate), line (what c_t keeps of
 * c_{t-1}, masks and scale included), masks (by site, 1 kept and 0 dropped, null without).
 */
export function run(weights, x, sites, key = [0, 0], row = 0, h0 = null, c0 = null) {
  const { units: H, inputs: I, ih, hh, bias } = weights;
  const T = x.length, size = T * H;
  const [h, c, forget, line] = [0, 0, 0, 0].map(() => new Float64Array(size));
  const masks = {};
  for (const { site, level } of sites) masks[site] = level ? new Uint8Array(size) : null;
  const read = new Float64Array(H), sums = new Float64Array(4 * H), update = new Float64Array(H);
  let before = h0 ?? new Float64Array(H), memory = c0 ?? new Float64Array(H);
  const factors = [update, read, new Float64Array(H)];

  for (let t = 0; t < T; t++) {
    for (let k = 0; k < 3; k++) {
      const { site, level, scale, perStep } = sites[k];
      if (!level) {
        factors[k].fill(scale);
        continue;
      }
      const mask = masks[site].subarray(t * H, t * H + H);
      if (perStep || t === 0) kept(key, level, site, t, row, mask);
      else mask.set(masks[site].subarray(0, H));
      for (let j = 0; j < H; j++) factors[k][j] = mask[j] * scale;
    }
    for (let j = 0; j < H; j++) read[j] *= before[j]; // Eq. 7: one mask for gates and update
    for (let n = 0; n < 4 * H; n++) {
      let sum = bias[n];
      if (typeof x[t] === "number") sum += ih[n * I + x[t]];
      else for (let j = 0; j < I; j++) sum += ih[n * I + j] * x[t][j];
      for (let j = 0, at = n * H; j < H; j++) sum += hh[at + j] * read[j];
      sums[n] = sum;
    }
    for (let j = 0, at = t * H; j < H; j++, at++) {
      const i = sigmoid(sums[j]), f = sigmoid(sums[H + j]); // Eq. 4
      const g = Math.tanh(sums[2 * H + j]) * update[j]; // Eq. 9
      const scale = factors[2][j];
      c[at] = scale * (f * memory[j] + i * g); // Eqs. 5 and 8
      h[at] = sigmoid(sums[3 * H + j]) * Math.tanh(c[at]); // Eq. 6
      forget[at] = f;
      line[at] = f * scale;
    }
    before = h.subarray(t * H, t * H + H);
    memory = c.subarray(t * H, t * H + H);
  }
  return { steps: T, units: H, h, c, forget, line, masks };
}

/** Class probabilities (T, classes) that a readout { weight (N, H), bias (N) } gives each state. */
export function classProbabilities(readout, { steps, units: H, h }, from = 0) {
  const N = readout.bias.length;
  const out = [];
  for (let t = from; t < steps; t++) {
    const logits = Array.from(readout.bias);
    for (let n = 0; n < N; n++) {
      for (let j = 0; j < H; j++) logits[n] += readout.weight[n * H + j] * h[t * H + j];
    }
    const top = Math.max(...logits);
    const exps = logits.map((v) => Math.exp(v - top));
    const total = exps.reduce((a, b) => a + b);
    out.push(exps.map((v) => v / total));
  }
  return out;
}
