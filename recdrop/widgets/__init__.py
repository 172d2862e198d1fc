"""Figures that a reader moves: they compute in the page, and in Python where a kernel runs."""

from recdrop.widgets.explorer import MemoryExplorer
from recdrop.widgets.fading import Fading
from recdrop.widgets.results import ResultsExplorer

__all__ = ["Fading", "MemoryExplorer", "ResultsExplorer"]
