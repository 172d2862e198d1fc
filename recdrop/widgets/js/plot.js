// A small chart in SVG: linear or logarithmic axes, lines, dots, intervals. Colours come from the
// style sheet by class, so that themes need no redrawing.

import { svg } from "./dom.js";

/**
 * x and y are { min, max, ticks: [[value, text]], label, log }. Lines leave the frame where their
 * values do, downwards where a logarithm has no place for 0; dots beyond it are left out.
 */
export function plot({ width, height, x, y, left = 44, bottom = 34, top = 8, right = 10 }) {
  const position = (axis, from, to) => {
    const at = axis.log ? Math.log10 : (v) => v;
    const [a, b] = [at(axis.min), at(axis.max)];
    return (v) => {
      const share = axis.log && v <= 0 ? -9 : Math.min(9, Math.max(-9, (at(v) - a) / (b - a)));
      return Math.round(10 * (from + share * (to - from))) / 10;
    };
  };
  const px = position(x, left, width - right), py = position(y, height - bottom, top);
  const root = svg("svg", { class: "rd-plot", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  for (const [value, text] of y.ticks) {
    root.append(
      svg("line", { class: "rd-grid", x1: left, x2: width - right, y1: py(value), y2: py(value) }),
      svg("text", { class: "rd-tick", x: left - 6, y: py(value) + 4, "text-anchor": "end" }, text));
  }
  for (const [value, text] of x.ticks) {
    root.append(svg("text", { class: "rd-tick", x: px(value), y: height - bottom + 16, "text-anchor": "middle" }, text));
  }
  root.append(
    svg("line", { class: "rd-axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    svg("text", { class: "rd-tick", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, x.label));
  // An SVG within it cuts off what lies outside, but for half the width of a line.
  const edge = 3, box = [left - edge, top - edge, width - right - left + 2 * edge, height - bottom - top + 2 * edge];
  const frame = svg("svg", { x: box[0], y: box[1], width: box[2], height: box[3], viewBox: box.join(" ") });
  root.append(frame);
  const shows = (b) => b >= y.min && b <= y.max;
  return {
    root, px, py,
    line(points, kind, title) {
      const path = points.filter(([, b]) => !Number.isNaN(b)).map(([a, b]) => `${px(a)},${py(b)}`).join(" ");
      frame.append(svg("polyline", { class: `rd-curve ${kind}`, points: path }, title ? svg("title", {}, title) : null));
    },
    dot(a, b, kind, radius = 3) {
      if (shows(b)) root.append(svg("circle", { class: `rd-dot ${kind}`, cx: px(a), cy: py(b), r: radius }));
    },
    interval(a, low, high, kind) {
      root.append(svg("line", { class: `rd-interval ${kind}`, x1: px(a), x2: px(a), y1: py(low), y2: py(high) }));
    },
    vertical(a, kind) {
      root.append(svg("line", { class: `rd-rule ${kind}`, x1: px(a), x2: px(a), y1: top, y2: height - bottom }));
    },
    horizontal(b, kind) {
      root.append(svg("line", { class: `rd-rule ${kind}`, x1: left, x2: width - right, y1: py(b), y2: py(b) }));
    },
    note(a, b, text, dx = 0, dy = 0, anchor = "start", kind = "") {
      root.append(svg("text", { class: `rd-note ${kind}`, x: px(a) + dx, y: py(b) + dy, "text-anchor": anchor }, text));
    },
  };
}
