// What scrolls sideways can be reached by the keyboard: the theme sees to code and tables, this to
// figures. A box that shows all it holds is no stop on the way.
const figures = document.querySelectorAll("figure");
const seen = new ResizeObserver(() => {
  for (const figure of figures) {
    if (figure.scrollWidth > figure.clientWidth) figure.tabIndex = 0;
    else figure.removeAttribute("tabindex");
  }
});
figures.forEach((figure) => seen.observe(figure));
