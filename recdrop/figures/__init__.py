"""The book's figures, each a function of manifests or of the cells themselves."""

from recdrop.drawing import save, show
from recdrop.figures.beyond import collapse, longer, phase_diagram, plateaus
from recdrop.figures.curves import learning_curves
from recdrop.figures.diagram import schemes
from recdrop.figures.order import effect, other_cells, rate_curves, states
from recdrop.figures.paper_tables import table
from recdrop.figures.style import CHANCE, COLOURS, LABELS
from recdrop.figures.theory import fading, masks

__all__ = [
    "CHANCE", "COLOURS", "LABELS", "collapse", "effect", "fading", "learning_curves", "longer",
    "masks", "other_cells", "phase_diagram", "plateaus", "rate_curves", "save", "schemes",
    "show", "states", "table",
]  # fmt: skip
