// The mask stream of recdrop/masks.py, bit for bit: Philox 4x32-10, counter (unit // 8, row, step,
// layer << 8 | direction << 4 | site), eight 16-bit decisions in each call.

export const LEVELS = 65536;
const SITE_CODES = { update: 0, hidden: 1, cell: 2 };

/** The high 32 bits of a product of two 32-bit words; 64-bit integers would be BigInts, and slow. */
function high(a, b) {
  const al = a & 0xffff, ah = a >>> 16, bl = b & 0xffff, bh = b >>> 16;
  const middle = ah * bl + ((al * bl) >>> 16);
  const other = al * bh + (middle & 0xffff);
  return (ah * bh + (middle >>> 16) + (other >>> 16)) >>> 0;
}

/** Four 32-bit words of a counter [c0, c1, c2, c3] under a key [k0, k1]. */
export function philox([c0, c1, c2, c3], [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    const h0 = high(c0, 0xd2511f53), l0 = Math.imul(c0, 0xd2511f53);
    const h1 = high(c2, 0xcd9e8d57), l1 = Math.imul(c2, 0xcd9e8d57);
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1 >>> 0, (h0 ^ c3 ^ k1) >>> 0, l0 >>> 0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The key of the first module that is called inside `recdrop.masks.seeding(seed)`. */
export function moduleKey(seed) {
  return philox([0, 0, 0, 0xffffffff], [seed >>> 0, 0]).slice(0, 2);
}

/** round(65536 p) as Python rounds it, halves to even: recdrop.dropout.threshold. */
export function threshold(rate) {
  const level = rate * LEVELS, low = Math.floor(level);
  if (level - low !== 0.5) return Math.round(level);
  return low % 2 ? low + 1 : low;
}

/** Write 1 where a unit is kept and 0 where it is dropped into `out` (units,). */
export function kept(key, level, site, step, row, out) {
  for (let call = 0; 8 * call < out.length; call++) {
    const words = philox([call, row, step, SITE_CODES[site]], key);
    for (let slice = 0; slice < 8 && 8 * call + slice < out.length; slice++) {
      const word = words[slice >> 1];
      out[8 * call + slice] = (slice & 1 ? word >>> 16 : word & 0xffff) >= level ? 1 : 0;
    }
  }
}
