"""What keeps some readers out, found by axe: https://github.com/dequelabs/axe-core.

Rules of contrast look at each piece of text, a thousandth of a second for each, and pages of the
reference have twenty thousand. So they are shown three pieces for each look: its colours, its size
and weight, and all that lies behind it.
"""

from axe_playwright_python.sync_playwright import Axe

# Style sheets are not fetched anew, which a page from a file may not do. Axe holds "region" to be
# of moderate impact, which we do not report, and would take longest over it.
OPTIONS = {"resultTypes": ["violations"], "preload": False}
MODERATE = ["region"]
OF_LOOKS = ["color-contrast", "link-in-text-block"]
# Signatures are marked up alike: the first of each row stands for the others.
ALIKE = {"exclude": [["dl.py ~ dl.py > dt"]]}
SOME_OF_EACH_LOOK = {"include": [["[data-look]"]]}
MARK_LOOKS = """() => {
  const seen = new Map(), behind = new Map();
  const backdrop = (e) => {  // of an element, from the page's up to its own
    if (!e) return "";
    if (!behind.has(e)) {
      const s = getComputedStyle(e);
      const own = [s.backgroundColor, s.backgroundImage, s.opacity, s.position].join();
      const usual = own === "rgba(0, 0, 0, 0),none,1,static";
      behind.set(e, backdrop(e.parentElement) + (usual ? "" : own + ";"));
    }
    return behind.get(e);
  };
  for (const e of document.querySelectorAll("body, body *")) {
    e.removeAttribute("data-look");
    if (![...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim())) continue;
    const {width, height} = e.getBoundingClientRect();  // what is cut off axe passes over
    if (Math.min(width, height) < 2 || !e.checkVisibility({visibilityProperty: true})) continue;
    const s = getComputedStyle(e), link = e.closest("a[href]");
    const around = link && getComputedStyle(link.parentElement);  // what a link must differ from
    const look = [s.color, s.fontSize, s.fontWeight, s.textShadow, s.textDecorationLine,
                  around?.color, around?.fontWeight, around?.display, backdrop(e)].join("|");
    seen.set(look, (seen.get(look) ?? 0) + 1);
    if (seen.get(look) <= 3) (link ?? e).dataset.look = "";
  }
}"""


def barriers(page, rules: list[str] | None = None) -> list[str]:
    """What axe finds serious or critical, by all its rules or these, with the first elements."""
    of_looks = [rule for rule in OF_LOOKS if rules is None or rule in rules]
    if rules is None:
        left_out = {rule: {"enabled": False} for rule in OF_LOOKS + MODERATE}
        found = _found(page, ALIKE, {"rules": left_out})
    else:
        others = [rule for rule in rules if rule not in OF_LOOKS]
        found = _found(page, ALIKE, {"runOnly": others}) if others else []
    if of_looks:
        page.evaluate(MARK_LOOKS)
        found += _found(page, SOME_OF_EACH_LOOK, {"runOnly": of_looks})
    return found


def _found(page, context: dict, options: dict) -> list[str]:
    results = Axe().run(page, context=context, options=OPTIONS | options)
    return [
        f"{found['id']}: {node['target']} {node['html'][:150]}"
        for found in results.response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:3]
    ]
