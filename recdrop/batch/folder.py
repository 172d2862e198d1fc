"""The folder of a sweep: one executed notebook for each point, and what is asked and claimed.

    NAME.ipynb                  executed; its metadata say whether it finished, or its error
    NAME.ipynb.HOST.PID.part    being executed
    NAME.ipynb.replaced         the one before, once --fresh has begun
    .recdrop/NAME.json          what was asked for
    .recdrop/NAME.claim1        who executes it, see claims.py

What has become of a point stands in its notebook alone, so that there is nothing to disagree with.
"""

import copy
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from recdrop.batch import claims
from recdrop.batch.grid import Point
from recdrop.study.files import atomic, clear_parts, named, writable

SCHEMA = 1


class Outcome(NamedTuple):
    """What has become of a point.

    ``status``: ``finished`` | ``failed`` | ``elsewhere``, being executed by another sweep |
    ``stopped``, its sweep was. ``error``: its first line. ``ended``: seconds since the epoch.
    """

    name: str
    status: str
    error: str | None = None
    seconds: float = 0.0
    ended: float = 0.0
    source: str | None = None


class Folder:
    """See above. ``path`` is absolute, as workers may have another working directory."""

    def __init__(self, path: str | os.PathLike):
        self.path = named(path).resolve()
        self.control = self.path / ".recdrop"

    def create(self) -> "Folder":
        """The folder, made and tried.

        Raises:
            OSError: it cannot be written to.
        """
        for folder in (self.path, self.control):
            writable(folder, "--out")
        return self

    def notebook(self, name: str) -> Path:
        return self.path / f"{name}.ipynb"

    # what is asked for

    def ask(self, points: list[Point]) -> None:
        """Write down what is wanted, for `recdrop status` and whoever comes later."""
        for point in points:
            path = self.control / f"{point.name}.json"
            if not path.exists():
                with atomic(path) as part:
                    text = json.dumps({"schema": SCHEMA, **asdict(point)}, indent=1)
                    part.write_text(text + "\n", encoding="utf-8")

    def asked(self) -> list[str]:
        """Names of all points that were ever asked for, in order."""
        return sorted(path.stem for path in self.control.glob("*.json"))

    def check(self, point: Point, source: str, fresh: bool = False) -> None:
        """Raise ValueError where the point's notebook would take the place of something else: of a
        file that is no sweep's, such as the point's notebook itself, or of another notebook's.

        Args:
            source: digest of the point's notebook.
            fresh: what there is of a sweep, will be set aside.
        """
        path = self.notebook(point.name)
        if not path.exists():
            return
        outcome = self.outcome(point.name)
        if outcome is None:
            raise ValueError(
                f"{path} is there and was not made by a sweep; give another --out, or move it away"
            )
        other = json.loads(path.read_text(encoding="utf-8"))["metadata"]["recdrop"].get("notebook")
        moved = outcome.source == source  # the same notebook, in a checkout elsewhere
        if not (fresh or moved or other == point.notebook):
            raise ValueError(
                f"{path} was made of another notebook, {other}; give another --out, or --fresh"
            )

    # what has become of it

    def outcome(self, name: str) -> Outcome | None:
        """That of the notebook that is there; None where there is none, or none of a sweep."""
        try:
            nb = json.loads(self.notebook(name).read_text(encoding="utf-8"))
            kept = nb["metadata"]["recdrop"]
            return Outcome(**{k: kept[k] for k in Outcome._fields})
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def set_aside(self, name: str) -> None:
        """Make room for a fresh run: what had finished is kept until the next such."""
        path = self.notebook(name)
        outcome = self.outcome(name)
        if path.exists() and (outcome is None or outcome.status == "finished"):
            os.replace(path, path.with_name(f"{path.name}.replaced"))

    def tidy(self) -> None:
        """Remove what processes that were killed have left; what is claimed is left alone."""
        clear_parts(self.path)
        claims.tidy(self.control)


def write(path: Path, nb: dict, outcome: Outcome, point: Point) -> None:
    """Write a notebook with its outcome in its metadata, where :meth:`Folder.outcome` reads it."""
    nb["metadata"]["recdrop"] = {
        "schema": SCHEMA,
        "parameters": point.parameters,
        "notebook": point.notebook,
        **outcome._asdict(),
    }
    path.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def with_error(nb: dict, kind: str, message: str) -> dict:
    """The notebook with an error that no cell raised, where it was when it came."""
    nb = copy.deepcopy(nb)
    text, tags = f"{kind}: {message}", ["papermill-error-cell-tag"]  # papermill removes them
    note = {"cell_type": "markdown", "id": "not-finished", "metadata": {"tags": tags}}
    nb["cells"].insert(0, note | {"source": f"**Not finished.** {text}"})
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    begun = [c for c in code if c["metadata"].get("papermill", {}).get("start_time")]
    for cell in (begun or code[:1])[-1:]:
        cell["outputs"].append(
            {"output_type": "error", "ename": kind, "evalue": message, "traceback": [text]}
        )
    return nb
