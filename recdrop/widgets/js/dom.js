// Elements in one call, and what every widget needs of the page.

const SVG = "http://www.w3.org/2000/svg";

/** A name that no other element of the page has: each widget has this module once more. */
export function unique(what) {
  document.recdropNames = (document.recdropNames ?? 0) + 1;
  return `recdrop-${what}-${document.recdropNames}`;
}

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

/** An HTML element; attributes that begin with "on" are listeners. */
export function html(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

/** A colour variable of the style sheet as canvas understands it, in the theme of the moment. */
export function colour(element, name) {
  element.style.color = `var(${name})`;
  const [r, g, b] = getComputedStyle(element).color.match(/[\d.]+/g).map(Number);
  element.style.color = "";
  return [r, g, b];
}

/** Call `changed` when the page turns dark or light, or the element gets another width or density. */
export function watch(element, changed) {
  const themes = new MutationObserver(changed);
  themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  themes.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", changed);
  let density = null;
  const follow = () => {
    density?.removeEventListener("change", zoomed);
    density = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    density.addEventListener("change", zoomed);
  };
  const zoomed = () => {
    follow();
    changed();
  };
  follow();
  let width = 0;
  const sizes = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now && now !== width) changed();
    width = now || width;
  });
  sizes.observe(element);
  return () => {
    themes.disconnect();
    sizes.disconnect();
    scheme.removeEventListener("change", changed);
    density.removeEventListener("change", zoomed);
  };
}

/**
 * A widget as anywidget and the book's own host call it.
 *
 * A notebook keeps the state of the day it was run. Where that is not what this script reads, the
 * page says so, and how to mend it.
 */
export function widget(version, needs, render) {
  return {
    render({ model, el }) {
      const root = html("div", { class: "recdrop" });
      el.append(root);
      const missing = needs.filter((name) => model.get(name) == null);
      if (model.get("version") === version && !missing.length) {
        const cleanup = render({ model, root });
        return () => {
          cleanup?.();
          root.remove();
        };
      }
      const found = missing.length ? `without ${missing.join(", ")}` : `of version ${model.get("version")}`;
      root.append(html("p", { class: "rd-message", role: "alert" },
        `This page was saved with a widget ${found}; its script expects version ${version}. `,
        "Run the notebook again and save it (make notebooks), then rebuild the book (make book-html)."));
    },
  };
}
