"""How each scheme is drawn and named, in all figures."""

from recdrop.drawing import BLUE, GREEN, GREY, VERMILION

COLOURS = {"semeniuta": BLUE, "gal": GREEN, "moon": VERMILION, "none": GREY}
LABELS = {
    "semeniuta": "own: on the update",
    "gal": "Gal: on the hidden state",
    "moon": "Moon: on the cell",
    "none": "no dropout",
}
ORDER = ("semeniuta", "gal", "moon")
CHANCE = 0.25
"""Accuracy on Temporal Order's four classes by guessing."""
