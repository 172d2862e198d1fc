// Tables 1 to 4: what was run here, with its intervals, beside the paper's figures.

import { html, svg, widget } from "./dom.js";
import { choice } from "./controls.js";

const VERSION = 1;
const NEEDS = ["tables", "table"];
const NAMES = { none: "none", semeniuta: "own", gal: "Gal", moon: "Moon" };
const ALL = "all";
const nameOf = (scheme) => scheme.split("+").map((part) => NAMES[part]).join(" + ");
const kindOf = (scheme) => `rd-${scheme.includes("+") ? "combined" : scheme}`;

function render({ model, root }) {
  const get = (key) => model.get(key);
  const tables = get("tables");
  const all = Object.values(tables).flatMap((table) => table.protocols.flatMap((protocol) => protocol.rows));
  const combined = [...new Set(all.map((row) => row.scheme))].filter((scheme) => scheme.includes("+"));
  const controls = [
    choice(model, "table", "Table", Object.entries(tables).map(([n, { task }]) => [Number(n), `${n}: ${task}`])),
    choice(model, "scheme", "Scheme", [[ALL, "all"], ["none", "none"], ["moon", "Moon"], ["gal", "Gal"], ["semeniuta", "own"],
      ...combined.map((scheme) => [scheme, nameOf(scheme)])]),
    choice(model, "per", "Masks per", [[ALL, "all"], ["step", "step"], ["sequence", "sequence"]]),
    choice(model, "forward", "Forward", [[ALL, "all"], ["no", "without"], ["yes", "with"]]),
    choice(model, "protocol", "Protocol", [[ALL, "all"], ["comparable", "the paper's"], ["other", "others"]]),
    choice(model, "run", "Rows", [[ALL, "all"], ["run", "run here"], ["missing", "not yet run"]]),
  ];
  const forward = controls[3];
  const body = html("div", { class: "rd-results" });
  const summary = html("p", { class: "rd-summary", role: "status", "aria-live": "polite" });
  root.classList.add("rd-results-explorer");
  root.append(html("section", { class: "rd-group rd-filters", "aria-label": "Filters" }, controls.map((c) => c.element)), summary, body);

  const wanted = (row, comparable) => {
    const is = (key, value) => get(key) === ALL || get(key) === value;
    // A rate of 0 is the one network without any scheme; it belongs to each comparison.
    return is("scheme", row.rate ? row.scheme : "none") && (!row.rate || is("per", row.per))
      && (get("table") === 1 || is("forward", row.forward ? "yes" : "no")) && is("protocol", comparable ? "comparable" : "other")
      && is("run", row.n || row.diverged ? "run" : "missing");
  };

  function draw() {
    const table = tables[get("table")];
    const groups = table.protocols.map((protocol) => ({
      ...protocol, rows: protocol.rows.filter((row) => wanted(row, protocol.comparable)),
    })).filter((group) => group.rows.length);
    forward.enable(get("table") !== 1); // Table 1 has no forward dropout
    body.replaceChildren(...groups.map((group) => section(table, group)));
    const rows = groups.flatMap((group) => group.rows);
    const run = rows.filter((row) => row.n).length;
    summary.textContent = rows.length
      ? `Table ${get("table")}, ${table.task}, ${table.metric}: ${rows.length} rows, ${run} of them run here. Figures are means ± 95 % intervals (seeds).`
      : `Table ${get("table")}, ${table.task}: no row fits these filters.`;
    root.recdrop = { shown: { table: get("table"), rows } };
    root.dataset.drawn = String(Number(root.dataset.drawn ?? 0) + 1);
    root.dataset.rows = String(rows.length);
  }

  function section(table, { name, told, comparable, rows }) {
    const [first, second] = table.keys; // such as valid and test
    const figures = rows.flatMap((row) => [row[second], row[`paper_${second}`],
      ...(row[`${second}_ci`] == null ? [] : [row[second] - row[`${second}_ci`], row[second] + row[`${second}_ci`]])])
      .filter((v) => v != null);
    const axis = [Math.min(...figures), Math.max(...figures)];
    const heads = ["scheme", "rate", "per", table.keys[0] === "train" ? "length" : "forward",
      first, "paper", second, "paper"];
    const kind = comparable ? "rd-comparable" : "rd-small-protocol";
    return html("section", { class: `rd-protocol ${kind}`, "data-protocol": name },
      html("h4", {}, html("span", { class: "rd-badge" }, name), ` ${told}`),
      html("div", { class: "rd-scroll", tabindex: 0, role: "group", "aria-label": `Results of protocol ${name}` },
        html("table", {},
          html("thead", {}, html("tr", {}, heads.map((head) => html("th", { scope: "col" }, head)),
            html("th", { scope: "col", class: "rd-picture" }, `${comparable ? "●" : "○"} here, ◇ paper: ${axis.map((v) => v.toFixed(table.digits)).join(" to ")}`))),
          html("tbody", {}, rows.map((row) => line(table, row, axis, comparable))))));
  }

  function line(table, row, axis, comparable) {
    const [first, second] = table.keys, d = table.digits;
    const ours = (key) => {
      if (row[key] == null) return row.diverged ? `diverged (${row.diverged})` : "not yet run";
      const ci = row[`${key}_ci`];
      return `${row[key].toFixed(d)}${ci == null ? "" : ` ± ${ci.toFixed(d)}`} (${row.n}${row.diverged ? `; ${row.diverged} diverged` : ""})`;
    };
    const papers = (key) => (row[`paper_${key}`] == null ? "–" : `${row.below === key ? "<" : ""}${row[`paper_${key}`]}`);
    const missing = row.n ? "" : "rd-missing";
    const cells = [nameOf(row.rate ? row.scheme : "none"), String(row.rate), row.rate ? row.per : "–",
      row.length ?? (row.forward ? "yes" : "no")].map((text) => html("td", {}, String(text)));
    return html("tr", { class: missing, "data-scheme": row.rate ? row.scheme : "none" }, cells,
      html("td", { class: "rd-ours" }, ours(first)), html("td", { class: "rd-papers" }, papers(first)),
      html("td", { class: "rd-ours" }, ours(second)), html("td", { class: "rd-papers" }, papers(second)),
      html("td", { class: "rd-picture" }, picture(row, second, axis, comparable)));
  }

  function picture(row, key, [low, high], comparable) {
    const width = 170, x = (v) => 8 + ((v - low) / (high - low || 1)) * (width - 16);
    const root = svg("svg", { class: "rd-plot", width, height: 20, viewBox: `0 0 ${width} 20`, "aria-hidden": "true" },
      svg("line", { class: "rd-grid", x1: 8, x2: width - 8, y1: 10, y2: 10 }));
    const scheme = kindOf(row.rate ? row.scheme : "none");
    const ours = row[key], ci = row[`${key}_ci`], papers = row[`paper_${key}`];
    if (papers != null) root.append(svg("path", { class: "rd-diamond", d: `M${x(papers)} 4l5 6l-5 6l-5 -6z` }));
    if (ours != null) {
      if (ci != null) root.append(svg("line", { class: `rd-interval ${scheme}`, x1: x(ours - ci), x2: x(ours + ci), y1: 10, y2: 10 }));
      root.append(svg("circle", { class: `rd-dot ${scheme} ${comparable ? "" : "rd-hollow"}`, cx: x(ours), cy: 10, r: 4.5 }));
    }
    return root;
  }

  for (const name of ["table", "scheme", "per", "forward", "protocol", "run"]) model.on(`change:${name}`, draw);
  draw();
}

export default widget(VERSION, NEEDS, render);
