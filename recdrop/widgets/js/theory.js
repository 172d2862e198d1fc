// Eqs. 10 to 15 of the paper: what the line of memory keeps when all gates are 1.

/**
 * The factor by which a memory changes at every step, and which equation says so.
 *
 * Under masks it is that of a unit the mask keeps where masks are per sequence, and the expectation
 * where they are drawn anew at each step.
 */
export function lineFactor({ scheme, rate, per, masked, scaling }) {
  const q = 1 - rate, inverted = scaling === "inverted";
  if (scheme !== "moon") return { factor: 1, equation: "Eq. 15", what: "the line has no mask" };
  if (!masked) {
    return inverted
      ? { factor: 1, equation: "Eq. 14", what: "evaluation is left alone" }
      : { factor: q, equation: "Eq. 13", what: "q at every step" };
  }
  if (per === "step") {
    return inverted
      ? { factor: 1, equation: "Eq. 14", what: "1 in expectation" }
      : { factor: q, equation: "Eq. 13", what: "q at every step, in expectation" };
  }
  return inverted
    ? { factor: 1 / q, equation: "Eq. 14", what: "a kept unit: 1/q at every step" }
    : { factor: 1, equation: "Eq. 3", what: "a kept unit is left alone" };
}

/** The factor with which an update enters: Eqs. 3, 9 and 14; 1 but for the own scheme and Moon's. */
export function updateFactor({ scheme, rate, masked, scaling }) {
  if (scheme === "gal" || scheme === "none" || masked || scaling === "inverted") return 1;
  return 1 - rate;
}

/**
 * The cell after n = 1 ... steps, with all gates 1 and a constant update g: Eqs. 13 and 15.
 *
 * c_n = factor * c_{n-1} + entering * g. In expectation where masks are drawn.
 */
export function predicted({ scheme, rate, per, masked, scaling, steps, start, update }) {
  const q = 1 - rate, scale = scaling === "inverted" ? (masked ? 1 / q : 1) : masked ? 1 : q;
  const mean = masked ? q * scale : scale; // the expected factor of a masked value
  const out = [];
  for (let n = 1; n <= steps; n++) {
    if (scheme === "moon" && masked && per === "sequence") {
      // One mask for all steps: the share q that is kept has the factor `scale` at each of them.
      out.push(q * (start * scale ** n + update * geometric(scale, n)));
    } else if (scheme === "moon") {
      out.push(start * mean ** n + update * geometric(mean, n)); // Eq. 13
    } else {
      out.push(start + (scheme === "semeniuta" ? mean : 1) * n * update); // Eq. 15
    }
  }
  return out;
}

/** r + r^2 + ... + r^n. */
function geometric(r, n) {
  return r === 1 ? n : (r - r ** (n + 1)) / (1 - r);
}
