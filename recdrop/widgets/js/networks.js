// What Python packs into a widget's state: weights as half-precision floats, sequences as 2 bits a
// symbol, both in base64.

import { classProbabilities, run } from "./lstm.js";

export const SYMBOLS = "ABCD";
export const CLASSES = ["AA", "AB", "BA", "BB"];

function bytes(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

/** IEEE half precision, which JavaScript has no array of everywhere. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** { units, inputs, ih, hh, bias, readout } of a network as recdrop.widgets.networks packs it. */
export function unpack({ units: H, weights }) {
  const raw = bytes(weights);
  const values = new Float64Array(raw.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = half(raw[2 * i] | (raw[2 * i + 1] << 8));
  const I = SYMBOLS.length, N = CLASSES.length;
  let at = 0;
  const take = (count) => values.subarray(at, (at += count));
  return {
    units: H, inputs: I, ih: take(4 * H * I), hh: take(4 * H * H), bias: take(4 * H),
    readout: { weight: take(N * H), bias: take(N) },
  };
}

/** Sequences, each an array of `length` symbols as 0 to 3. */
export function unpackSequences(base64, length) {
  const raw = bytes(base64);
  const found = [];
  for (let row = 0; (row + 1) * length <= raw.length * 4; row++) {
    found.push(Array.from({ length }, (_, t) => {
      const n = row * length + t;
      return (raw[n >> 2] >> (2 * (n & 3))) & 3;
    }));
  }
  return found;
}

/** The index of the class, or -1 where it is not one A or B in each of the first two thirds. */
export function classOf(symbols) {
  const third = symbols.length / 3;
  const places = symbols.flatMap((s, t) => (s < 2 ? [t] : []));
  const [a, b] = places;
  if (places.length !== 2 || a >= third || b < third || b >= 2 * third) return -1;
  return 2 * symbols[a] + symbols[b];
}

/** Whether the network's answer, the likeliest class at the end, is right. */
export function isRight(network, symbols, sites, key, row) {
  const trace = run(network, symbols, sites, key, row);
  const [last] = classProbabilities(network.readout, trace, symbols.length - 1);
  return last.indexOf(Math.max(...last)) === classOf(symbols);
}
