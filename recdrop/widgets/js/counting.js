// Accuracies over hundreds of sequences, a few milliseconds at a time: the page never waits.

const SLICE = 8; // milliseconds; a frame has 16

/**
 * A queue of counts. `count(job, row)` says whether a row is right; jobs are { key, rows, ... }.
 * Finished and half-finished counts are kept by key, so that coming back to a setting costs nothing.
 */
export function counting(count, progressed) {
  const found = new Map();
  let queue = [], timer = null;

  function slice() {
    timer = null;
    const end = performance.now() + SLICE;
    let whole = false;
    while (queue.length && performance.now() < end) {
      const job = queue[0];
      const state = found.get(job.key) ?? { hits: 0, n: 0, rows: job.rows };
      found.set(job.key, state);
      if (state.n >= job.rows) {
        queue.shift();
        whole = true;
        continue;
      }
      state.hits += count(job, state.n) ? 1 : 0;
      state.n += 1;
    }
    if (queue.length) timer = setTimeout(slice, 0);
    progressed(whole, !queue.length);
  }

  return {
    get: (key) => found.get(key),
    run(jobs) {
      queue = jobs;
      timer ??= setTimeout(slice, 0);
    },
    stop() {
      clearTimeout(timer);
      queue = [];
    },
  };
}
