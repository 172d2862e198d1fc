"""What the widgets share: their script and style sheet, read from readable sources."""

import math
import re
from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).parent
VERSION = 1
"""Of the state that a notebook keeps; a page whose script expects another one says so."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.M)


def script(entry: str) -> str:
    """The module ``js/entry`` with the modules that it imports in front, as one module.

    A widget's script travels as text in its state and can import nothing. The sources are ES
    modules whose top-level names differ, so it is enough to leave out ``import`` and ``export``.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name in parts:
            return
        text = (HERE / "js" / name).read_text(encoding="utf-8")
        for needed in _IMPORT.findall(text):
            add(needed)
        text = _IMPORT.sub("", text)
        parts[name] = re.sub(r"^export (?!default)", "", text, flags=re.M).strip()

    add(entry)
    return "\n\n".join(f"// ---- {name}\n{text}" for name, text in parts.items()) + "\n"


def style() -> str:
    """The style sheet of all widgets."""
    return (HERE / "widgets.css").read_text(encoding="utf-8")


class Finite(traitlets.Float):
    """A number that JSON has: with NaN or an infinity in its state a page shows no widget."""

    def validate(self, obj: traitlets.HasTraits, value: object) -> float:
        value = super().validate(obj, value)
        if not math.isfinite(value):
            raise traitlets.TraitError(f"{self.name}={value} is no number; give a finite one")
        return value


class Part(anywidget.AnyWidget):
    """A figure that computes in the page by itself, with or without a kernel."""

    version = traitlets.Int(VERSION).tag(sync=True)
