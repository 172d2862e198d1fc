// On paper nothing can be unfolded: answers and folded tables are open there. Folded code is left out
// by the style.
const FOLDED = "details.sd-dropdown:not([open]), .tag_hide-cell > details:not([open])";
const unfolded = [];
addEventListener("beforeprint", () => {
  for (const answer of document.querySelectorAll(FOLDED)) {
    answer.open = true;
    unfolded.push(answer);
  }
});
addEventListener("afterprint", () => {
  for (const answer of unfolded.splice(0)) answer.open = false;
});
