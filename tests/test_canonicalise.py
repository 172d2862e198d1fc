"""Executing a notebook again must not change a byte of its canonical form, nor lose a result."""

import copy
import uuid
from pathlib import Path

import nbformat
import pytest
from canonicalise import STATE, VIEW, canonicalise, main
from nbformat import NotebookNode, v4

NOISY = """\
import sys, time
from IPython.display import display
from ipywidgets import FloatSlider, interact, jslink
from tqdm.auto import tqdm
print("accuracy 99.9%", flush=True); print("of 10,000 sequences")
print("lost time", file=sys.stderr)
for _ in tqdm(range(3)): pass
unseen = FloatSlider(description="unseen")
left, right = FloatSlider(description="left"), FloatSlider(description="right")
jslink((left, "value"), (right, "value"))
display(left, right)
lambda: 0"""


def view(name: str, text: str = "FloatSlider()") -> NotebookNode:
    content = {"model_id": name, "version_major": 2, "version_minor": 0}
    return v4.new_output("display_data", data={VIEW: content, "text/plain": text})


def executed() -> NotebookNode:
    """A notebook as a run leaves it; the random names differ from call to call."""
    slider, style, unseen, bar, link = (uuid.uuid4().hex for _ in range(5))
    models = {
        unseen: {"model_name": "FloatSliderModel", "state": {"description": "unseen"}},
        style: {"model_name": "SliderStyleModel", "state": {"description_width": ""}},
        link: {"model_name": "LinkModel", "state": {"source": [f"IPY_MODEL_{slider}", "value"]}},
        slider: {"model_name": "FloatSliderModel", "state": {"style": f"IPY_MODEL_{style}"}},
        bar: {"model_name": "HBoxModel", "state": {}},
    }
    outputs = [
        v4.new_output("stream", name="stdout", text="test accuracy "),
        v4.new_output("stream", name="stderr", text=" 50%|#### | 1/2 [00:01<00:01]"),
        v4.new_output("stream", name="stdout", text="25.1\n"),
        view(bar, "  0%|          | 0/3 [00:00<?, ?it/s]"),
        view(slider),
        v4.new_output(
            "execute_result",
            data={"text/plain": f"<function f at 0x{uuid.uuid4().hex[:12]}>", "image/png": "iVBO"},
            execution_count=9,
        ),
    ]
    code = v4.new_code_cell("f()", outputs=outputs, execution_count=9)
    code.metadata = {
        "papermill": {"duration": uuid.uuid4().int},
        "execution": {"iopub.execute_input": uuid.uuid4().hex},
        "tags": [],
    }
    cells = [v4.new_markdown_cell("# Title"), code, v4.new_code_cell("f()")]
    nb = v4.new_notebook(cells=cells)
    nb.metadata = {
        "kernelspec": {"name": "venv", "display_name": "a venv", "language": "python"},
        "language_info": {"name": "python", "version": "3.11.7"},
        "papermill": {"output_path": uuid.uuid4().hex},
        "widgets": {STATE: {"state": models, "version_major": 2, "version_minor": 0}},
    }
    return nbformat.from_dict(nb)


def test_two_runs_give_the_same_bytes():
    assert nbformat.writes(canonicalise(executed())) == nbformat.writes(canonicalise(executed()))


def test_idempotent():
    once = canonicalise(executed())
    assert canonicalise(copy.deepcopy(once)) == once


def test_valid_and_reproducible_names():
    nb = canonicalise(executed())
    nbformat.validate(nb)
    ids = [cell.id for cell in nb.cells]
    assert len(set(ids)) == 3
    del nb.cells[0]
    assert [cell.id for cell in canonicalise(nb).cells] == ids[1:], "a cell renamed those after it"


def test_results_stay_and_traces_go():
    nb = canonicalise(executed())
    printed, slider, result = nb.cells[1].outputs
    assert printed.text == "test accuracy 25.1\n"
    assert slider.data["text/plain"] == "FloatSlider()"
    assert result.data == {"text/plain": "<function f>", "image/png": "iVBO"}
    assert nb.cells[1].execution_count == result.execution_count == 1
    assert nb.cells[2].execution_count is None
    assert nb.cells[1].metadata == {}
    assert nb.metadata.keys() == {"kernelspec", "language_info", "widgets"}
    assert nb.metadata.language_info == {"name": "python"}


def test_only_models_that_are_shown_stay():
    nb = canonicalise(executed())
    models = nb.metadata.widgets[STATE].state
    shown = nb.cells[1].outputs[1].data[VIEW].model_id
    names = [model.model_name for model in models.values()]
    assert names == ["FloatSliderModel", "SliderStyleModel", "LinkModel"]
    assert models[shown].state == {"style": f"IPY_MODEL_{list(models)[1]}"}
    assert models[list(models)[2]].state.source == [f"IPY_MODEL_{shown}", "value"]


def test_file_is_written_only_where_it_changes(tmp_path: Path):
    path = tmp_path / "notebook.ipynb"
    nbformat.write(executed(), path)
    main([str(path)])
    before = path.stat().st_mtime_ns
    main([str(path)])
    assert path.stat().st_mtime_ns == before


def test_real_executions_agree(tmp_path: Path):
    papermill = pytest.importorskip("papermill")
    source, runs = tmp_path / "source.ipynb", []
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(NOISY)]), source)
    for run in ("a", "b"):
        path = tmp_path / f"{run}.ipynb"
        papermill.execute_notebook(source, path, kernel_name="python3", progress_bar=False)
        main([str(path)])
        runs.append(path.read_bytes())
    assert runs[0] == runs[1]
    outputs = nbformat.reads(runs[0].decode(), as_version=4).cells[0].outputs
    assert outputs[0].text == "accuracy 99.9%\nof 10,000 sequences\n"
    assert len(outputs) == 4, "text, two sliders and the value of the cell"
    assert b'description": "left' in runs[0]
    assert b"LinkModel" in runs[0]
    assert b'unseen",' not in runs[0].split(b"widget-state")[1]
