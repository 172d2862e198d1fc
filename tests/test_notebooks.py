"""The committed notebooks: canonical, runnable in batch, and checked number by number."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from canonicalise import canonicalise

papermill = pytest.importorskip("papermill", reason="running notebooks needs papermill")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run(path: Path, folder: Path, **parameters) -> nbformat.NotebookNode:
    """The notebook executed by papermill on the smoke profile, its results in ``folder``."""
    parameters = {"profile": "smoke", "results_dir": str(folder / "results")} | parameters
    return papermill.execute_notebook(
        path, folder / path.name, parameters, kernel_name="python3", progress_bar=False
    )


@every_notebook
def test_is_canonical(path: Path):
    text = path.read_text(encoding="utf-8")
    again = nbformat.writes(canonicalise(nbformat.reads(text, as_version=4))) + "\n"
    assert again == text, "run `make notebooks`"


@every_notebook
def test_was_executed_to_its_end(path: Path):
    code = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert not [o for c in code for o in c.outputs if o.output_type == "error"]


@every_notebook
def test_numbered_equations_of_several_lines_are_not_split(path: Path):
    """Sphinx wraps a $$ block that has a line break into `split`, in which MathJax refuses tags."""
    text = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
    blocks = text.split("$$")[1::2]
    assert not [block for block in blocks if "\\\\" in block and "\\tag" in block]


@every_notebook
def test_smoke_run_needs_no_corpus(path: Path, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("RECDROP_DATA", raising=False)
    executed = run(path, tmp_path)
    assert not [o for c in executed.cells for o in c.get("outputs", []) if o.output_type == "error"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rtes": 0.5}, "unknown parameter 'rtes'; did you mean 'rates'?"),
        ({"rates": 1.5}, "rates=1.5 is outside"),
    ],
)
def test_bad_parameters_stop_a_run_before_it_starts(tmp_path: Path, parameters: dict, message: str):
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run(NOTEBOOKS[1], tmp_path, **parameters)
    assert message in str(error.value)
    assert not (tmp_path / "results").exists()


def test_a_falsified_number_is_noticed(tmp_path: Path):
    """One digit of a committed result changed by hand must fail the check of `make test`."""
    path = next(p for p in NOTEBOOKS if p.stem.startswith("03"))
    text = path.read_text(encoding="utf-8")
    assert text.count("40,000, valid") == 1
    (ROOT / "runs").mkdir(exist_ok=True)
    falsified = ROOT / "runs" / f"falsified-{tmp_path.name}.ipynb"
    falsified.write_text(text.replace("40,000, valid", "41,000, valid"), encoding="utf-8")
    sanitize = ROOT / "tests/nbval_sanitize.cfg"
    command = ["-m", "pytest", "-q", "--nbval", "--nbval-sanitize-with", sanitize, falsified]
    try:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)
    finally:
        falsified.unlink()
    assert done.returncode == 1
    assert "41,000" in done.stdout
