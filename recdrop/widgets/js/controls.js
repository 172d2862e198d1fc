// Controls bound to the widget's model: native inputs, so that keyboard, touch and screen readers
// work as everywhere.

import { html, unique } from "./dom.js";

// JupyterLab takes arrows and letters for its own commands unless the element itself says no.
export const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };

export function set(model, key, value) {
  model.set(key, value);
  model.save_changes();
}

/** One of few values: radio buttons that look like one bar. options: [value, label, title]. */
export function choice(model, key, legend, options) {
  const name = unique(key);
  const inputs = options.map(([value, label, title]) => {
    const input = html("input", {
      type: "radio", name, value: String(value), ...OWN_KEYS,
      onchange: () => set(model, key, value),
    });
    return [value, input, html("label", { class: "rd-option", title }, input, html("span", {}, label))];
  });
  const element = html("fieldset", { class: "rd-choice", "data-control": key },
    html("legend", {}, legend), html("div", { class: "rd-bar" }, inputs.map(([, , label]) => label)));
  const show = () => {
    for (const [value, input] of inputs) input.checked = value === model.get(key);
  };
  model.on(`change:${key}`, show);
  show();
  return {
    element,
    enable: (on) => (element.disabled = !on),
  };
}

/** A number. options: { min, max, step, format }. */
export function slider(model, key, text, { min, max, step, format }) {
  const id = unique(key);
  const output = html("output", { for: id });
  const input = html("input", {
    type: "range", id, min, max, step, ...OWN_KEYS,
    oninput: () => {
      show(Number(input.value));
      set(model, key, Number(input.value));
    },
  });
  const show = (value) => {
    output.textContent = format(value);
    input.setAttribute("aria-valuetext", format(value));
  };
  const update = () => {
    input.value = model.get(key);
    show(model.get(key));
  };
  model.on(`change:${key}`, update);
  update();
  const label = html("label", { for: id }, text);
  return {
    element: html("div", { class: "rd-slider", "data-control": key }, label, input, output),
    enable: (on) => (input.disabled = !on),
    label,
  };
}

/** A button; where its text is a mere sign, `title` is its name. */
export function button(text, title, onclick, name) {
  const label = /\w/.test(text) ? null : title;
  return html("button", { type: "button", class: "rd-button", title, "aria-label": label, onclick, "data-control": name, ...OWN_KEYS }, text);
}
