"""Figures that a reader moves: they compute in the page, and with Python where there is a kernel."""

from recdrop.widgets.explorer import MemoryExplorer

__all__ = ["MemoryExplorer"]
