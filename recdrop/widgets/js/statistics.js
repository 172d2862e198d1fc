/** The 95 % confidence interval (Wilson's) of a share: `hits` of `n`. */
export function wilson(hits, n) {
  const z = 1.959964, p = hits / n, d = 1 + (z * z) / n;
  const middle = (p + (z * z) / (2 * n)) / d;
  const half = (z / d) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}
