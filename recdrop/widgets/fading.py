"""The fading of a memory, Eqs. 10 to 15, in a cell whose gates are all 1."""

import traitlets

from recdrop.dropout import SAMPLINGS, SCALINGS
from recdrop.widgets.part import Finite, Part, script, style


class Fading(Part):
    """Lines of Eqs. 13 and 15, and dots of the cell itself, computed in the page.

    The cell is that of :func:`recdrop.study.memory.fading`: weights 0, biases that force the gates
    to 1, a memory of ``start`` and a constant ``update``. Every control is a trait.
    """

    _esm = script("fading.js")
    _css = style()

    scheme = traitlets.Enum(("semeniuta", "gal", "moon"), "moon").tag(sync=True)
    rate = Finite(0.5, min=0.0, max=0.9).tag(sync=True)
    steps = traitlets.Int(15, min=5, max=100).tag(sync=True)
    per = traitlets.Enum(SAMPLINGS, "sequence").tag(sync=True)
    masked = traitlets.Bool(False).tag(sync=True)
    scaling = traitlets.Enum(SCALINGS, "paper").tag(sync=True)
    start = Finite(1.0, min=0.01).tag(sync=True)
    update = Finite(0.0, min=0.0, max=0.9).tag(sync=True)
    log = traitlets.Bool(False).tag(sync=True)
    draw = traitlets.Int(0, min=0, max=2**31 - 1).tag(sync=True)

    def __repr__(self) -> str:
        return f"Fading(scheme={self.scheme!r}, rate={self.rate})"
