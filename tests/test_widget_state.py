"""Widgets saved in the committed notebooks have the scripts and styles of the sources."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import traitlets

from recdrop.widgets.fading import Fading

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
STATE = "application/vnd.jupyter.widget-state+json"


def saved(path: Path) -> list[dict]:
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    models = metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    return [m["state"] for m in models.values() if "_esm" in m["state"]]


HOLDING = [path for path in NOTEBOOKS if saved(path)]


def test_chapters_hold_widgets():
    assert [path.stem[:2] for path in HOLDING] == ["01", "02"]


@pytest.mark.parametrize("path", HOLDING, ids=lambda path: path.stem)
def test_the_saved_script_is_the_source(path: Path):
    """A page of the book runs what was saved; an older script would outlive its source there."""
    for state in saved(path):
        module, _, name = state["_anywidget_id"].rpartition(".")
        widget = getattr(import_module(module), name)
        for key in ("_esm", "_css"):
            assert state[key] == str(getattr(widget, key)), "run `make notebooks`"


@pytest.mark.parametrize("name", ["rate", "start", "update"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_has_numbers_that_json_has(name: str, value: float):
    """A page reads its widgets' state as JSON, and with one NaN in it shows none of them."""
    widget = Fading()
    before = widget.get_state()
    with pytest.raises(traitlets.TraitError, match=f"{name}|range|maximum"):
        setattr(widget, name, value)
    assert widget.get_state() == before
