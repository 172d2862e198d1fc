"""Write executed notebooks in a canonical form, so that executing them again changes no byte.

An executed notebook holds what the run found, and traces of when, where and how fast it ran. The
first is kept as it is. Of the second, names drawn at random are drawn again from the content, and
the rest is dropped. Run it after every execution, before `git add`:

    python tools/canonicalise.py notebooks/*.ipynb
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
MODEL_ID = re.compile(r"\b(?:IPY_MODEL_)?([0-9a-f]{32})\b")
PROGRESS = re.compile(r"\d%\||(?:it/s|s/it)\]")  # how a tqdm bar in a widget describes itself


def canonicalise(nb: NotebookNode) -> NotebookNode:
    """The notebook without the traces of its execution; the argument is changed and returned."""
    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.metadata.pop("papermill", None)
    nb.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    nb.metadata["language_info"] = {"name": "python"}
    _name_cells(nb.cells)
    count = 0
    for cell in nb.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = _found(cell.outputs)
            if cell.execution_count is not None:
                cell.execution_count = count = count + 1
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = cell.execution_count
    return _with_canonical_widgets(nb)


def _name_cells(cells: list[NotebookNode]) -> None:
    """Name each cell by its source, so that a new cell does not rename those after it."""
    seen: dict[str, int] = {}
    for cell in cells:
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"


def _found(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs that belong to the document: no progress, no stderr, no addresses in memory."""
    kept: list[NotebookNode] = []
    for output in outputs:
        stream = output.output_type == "stream"
        if stream and output.name == "stderr":
            continue  # for whoever watches the run: bars, and warnings with paths of this machine
        if VIEW in output.get("data", {}) and PROGRESS.search(output.data.get("text/plain", "")):
            continue
        if stream and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text  # where a stream is cut depends on timing
        else:
            kept.append(output)
    return nbformat.from_dict(json.loads(ADDRESS.sub("", json.dumps(kept))))


def _with_canonical_widgets(nb: NotebookNode) -> NotebookNode:
    """Keep the widget models that the outputs show, named in the order in which they are met."""
    models: dict[str, Any] = nb.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    texts = {
        name: ADDRESS.sub("", json.dumps(model, sort_keys=True)) for name, model in models.items()
    }

    def references(text: str) -> list[str]:
        return [name for name in MODEL_ID.findall(text) if name in models]

    names: dict[str, str] = {}

    def keep(found: Iterable[str]) -> None:
        for name in found:
            if name not in names:
                names[name] = f"{len(names):032x}"
                keep(references(texts[name]))

    def renamed(text: str) -> str:
        return MODEL_ID.sub(lambda m: m[0].replace(m[1], names.get(m[1], m[1])), text)

    keep(references(json.dumps([cell.get("outputs", []) for cell in nb.cells])))
    # Nothing refers to a link between widgets: it is the link that refers to them.
    links = [name for name, model in models.items() if "Link" in model["model_name"]]
    shown = [name for name in links if names.keys() >= set(references(texts[name]))]
    for name in sorted(shown, key=lambda name: renamed(texts[name])):
        keep([name])

    for cell in nb.cells:
        if "outputs" in cell:
            cell.outputs = nbformat.from_dict(json.loads(renamed(json.dumps(cell.outputs))))
    if names:
        state = {new: json.loads(renamed(texts[old])) for old, new in names.items()}
        nb.metadata["widgets"] = nbformat.from_dict(
            {STATE: {"state": state, "version_major": 2, "version_minor": 0}}
        )
    return nb


def main(paths: list[str]) -> None:
    """Rewrite each notebook in place."""
    for path in map(Path, paths):
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(canonicalise(nbformat.reads(before, as_version=4))) + "\n"
        if after != before:
            path.write_text(after, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
