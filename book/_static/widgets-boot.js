// The book has no kernel: read the widgets' state that the page holds, and let each draw itself.
//
// A widget's script is part of its state. It is imported from there and called as anywidget calls
// it, with a model of get, set and on; nothing is loaded, so it works from a file as from a server.

const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';

function modelOf(state) {
  const values = { ...state };
  const listeners = new Map();
  const fire = (name, ...what) => [...(listeners.get(name) ?? [])].forEach((call) => call(...what));
  return {
    get: (key) => values[key],
    set(key, value) {
      if (Object.is(values[key], value)) return;
      values[key] = value;
      fire(`change:${key}`);
      fire("change");
    },
    on: (name, call) => listeners.set(name, [...(listeners.get(name) ?? []), call]),
    off: (name, call) =>
      name ? listeners.set(name, (listeners.get(name) ?? []).filter((f) => call && f !== call)) : listeners.clear(),
    save_changes() {}, // to whom
    send() {},
  };
}

function importText(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  return import(url).finally(() => URL.revokeObjectURL(url));
}

async function show(view, models, styled) {
  const place = document.createElement("div");
  view.after(place);
  try {
    const { model_id: id } = JSON.parse(view.textContent);
    const state = models[id]?.state;
    if (!state?._esm) throw new Error("the page was saved without the state of this widget");
    if (state._css && !styled.has(state._css)) {
      styled.add(state._css);
      document.head.append(Object.assign(document.createElement("style"), { textContent: state._css }));
    }
    const { default: widget } = await importText(state._esm);
    await widget.render({ model: modelOf(state), el: place });
  } catch (error) {
    place.setAttribute("role", "alert");
    place.textContent = `This figure cannot be shown (${error.message}). Run the notebook again and save it, then rebuild the book (make notebooks book-html).`;
    console.error(error);
  }
  view.remove();
}

const views = document.querySelectorAll(VIEW);
if (views.length) {
  const models = {};
  for (const tag of document.querySelectorAll(STATE)) Object.assign(models, JSON.parse(tag.textContent).state);
  const styled = new Set();
  views.forEach((view) => show(view, models, styled));
}
