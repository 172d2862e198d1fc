// Units by steps on a canvas, with the masks on top.

import { colour } from "./dom.js";

const mix = (a, b, share) => a.map((v, i) => Math.round(v + (b[i] - v) * share));

/** A canvas of that size in CSS pixels, sharp on any screen. */
export function surface(canvas, width, height) {
  const density = globalThis.devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  return context;
}

/**
 * values (T, H), order the units from top to bottom, range the value of the strongest colour,
 * mask (T, H) with 0 where dropped, or null. Column t begins at left(t).
 */
export function drawCells(canvas, { values, units, steps, order, range, mask, left, width, height, selected }) {
  const context = surface(canvas, width, height);
  const [low, middle, high, ink] = ["--rd-low", "--rd-middle", "--rd-high", "--rd-ink"].map((name) => colour(canvas, name));
  const row = height / units;
  const radius = Math.max(0.7, Math.min(2.4, 0.22 * Math.min(row, left(1) - left(0))));
  for (let t = 0; t < steps; t++) {
    for (let place = 0; place < units; place++) {
      const at = t * units + order[place], value = values[at] / range;
      // By the square root, so that a faded memory is pale, and still to be seen.
      const share = Number.isNaN(value) ? 0 : Math.sqrt(Math.min(1, Math.abs(value)));
      context.fillStyle = `rgb(${mix(middle, value < 0 ? low : high, share)})`;
      context.fillRect(left(t), place * row, left(t + 1) - left(t) - 0.5, row - 0.5);
      if (mask && !mask[at]) {
        context.fillStyle = `rgba(${ink}, 0.55)`;
        context.beginPath();
        context.arc((left(t) + left(t + 1)) / 2, (place + 0.5) * row, radius, 0, 7);
        context.fill();
      }
    }
  }
  frame(context, ink, left, selected, height);
}

/** Class probabilities (T, N) as N rows, darker where likelier. */
export function drawProbabilities(canvas, { probabilities, left, width, height, selected }) {
  const context = surface(canvas, width, height);
  const [ground, accent, ink] = ["--rd-middle", "--rd-accent", "--rd-ink"].map((name) => colour(canvas, name));
  const row = height / probabilities[0].length;
  probabilities.forEach((now, t) => now.forEach((p, n) => {
    context.fillStyle = `rgb(${mix(ground, accent, Number.isNaN(p) ? 0 : p)})`;
    context.fillRect(left(t), n * row, left(t + 1) - left(t) - 0.5, row - 1);
  }));
  frame(context, ink, left, selected, height);
}

function frame(context, ink, left, selected, height) {
  context.strokeStyle = `rgb(${ink})`;
  context.lineWidth = 1.5;
  context.strokeRect(left(selected) - 0.5, 0.75, left(selected + 1) - left(selected) + 0.5, height - 1.5);
}
