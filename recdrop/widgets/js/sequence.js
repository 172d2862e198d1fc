// The sequence as a strip of symbols: one is selected, and can be set to another.

import { html, unique } from "./dom.js";
import { OWN_KEYS, button } from "./controls.js";
import { CLASSES, SYMBOLS, classOf } from "./networks.js";

/** { element, editor, show(symbols, selected, left, width) }; `select(t)` and `put(t, symbol)` are called on moves. */
export function strip(select, put) {
  const name = unique("symbol");
  const list = html("div", {
    class: "rd-strip", role: "listbox", tabindex: 0, "aria-orientation": "horizontal",
    "aria-label": "Sequence: arrows choose a step, A to D set its symbol", ...OWN_KEYS,
  });
  const told = html("span", { class: "rd-told" });
  let symbols = [], selected = 0;

  const choose = (t) => select(Math.max(0, Math.min(symbols.length - 1, t)));
  const change = (symbol) => put(selected, symbol);
  const keys = {
    ArrowLeft: () => choose(selected - 1),
    ArrowRight: () => choose(selected + 1),
    Home: () => choose(0),
    End: () => choose(symbols.length - 1),
    ArrowUp: () => change((symbols[selected] + 1) % 4),
    ArrowDown: () => change((symbols[selected] + 3) % 4),
  };
  list.addEventListener("keydown", (event) => {
    const symbol = SYMBOLS.indexOf(event.key.toUpperCase());
    const act = keys[event.key] ?? (symbol >= 0 && event.key.length === 1 ? () => change(symbol) : null);
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  list.addEventListener("click", (event) => {
    const t = [...list.children].indexOf(event.target.closest("[role=option]"));
    if (t < 0) return;
    if (t === selected) change((symbols[t] + 1) % 4); // a second click turns the symbol
    else choose(t);
  });

  const setters = [...SYMBOLS].map((letter, symbol) =>
    button(letter, `Set the selected symbol to ${letter}`, () => change(symbol), `symbol-${letter}`));
  const back = button("‹", "Step before", () => choose(selected - 1), "step-before");
  const next = button("›", "Next step", () => choose(selected + 1), "step-after");
  const editor = html("div", { class: "rd-editor" }, back, told, next, html("span", { class: "rd-setters" }, setters));

  function show(now, at, left, width) {
    if (list.children.length !== now.length) {
      list.replaceChildren(...now.map((_, t) => html("div", { role: "option", id: `${name}-${t}` })));
    }
    symbols = now;
    selected = at;
    const third = now.length / 3;
    now.forEach((symbol, t) => {
      const option = list.children[t];
      option.textContent = SYMBOLS[symbol];
      option.className = `${symbol < 2 ? "rd-signal" : ""} ${t && t % third === 0 ? "rd-third" : ""}`;
      option.setAttribute("aria-selected", String(t === at));
      option.setAttribute("aria-label", `Step ${t + 1}: ${SYMBOLS[symbol]}`);
      option.style.left = `${left(t)}px`;
      option.style.width = `${left(t + 1) - left(t)}px`;
    });
    list.setAttribute("aria-activedescendant", `${name}-${at}`);
    list.style.width = `${width}px`;
    list.classList.toggle("rd-tight", left(1) - left(0) < 9);
    told.textContent = `step ${at + 1} of ${now.length}: ${SYMBOLS[now[at]]}`;
    setters.forEach((setter, symbol) => setter.setAttribute("aria-pressed", String(symbol === now[at])));
    const kind = classOf(now);
    return kind < 0 ? null : CLASSES[kind];
  }
  return { element: list, editor, show };
}
