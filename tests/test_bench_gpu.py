"""The bench on a GPU: its machinery, tried on whatever device there is."""

import json

import pytest
import torch

from recdrop.bench import gpu, gpu_report, report
from recdrop.cli import main
from recdrop.kernels import triton

ON_GPU = torch.cuda.is_available()
TRIAL = gpu.TRIAL._replace(device="cuda" if ON_GPU else "cpu")


@pytest.fixture(scope="module")
def trial() -> dict:
    return gpu.measure(TRIAL, say=lambda text: None)


def test_a_run_has_a_row_for_each_measurement(trial):
    of_shapes = [r for r in trial["rows"] if r["part"] == "shapes"]
    assert {r["shape"][0] for r in of_shapes} == set(TRIAL.replicas)
    assert {r["precision"] for r in of_shapes} == set(TRIAL.precisions)
    assert {gpu.OURS, gpu.CUDNN} <= {r["contender"] for r in of_shapes}
    assert [r["networks"] for r in trial["rows"] if r["part"] == "updates"] == [36, 36]
    assert all(0 < r["seconds"][0] <= r["seconds"][1] for r in trial["rows"])


def test_cudnn_is_measured_once_and_not_as_a_table(trial):
    assert {r["shape"][0] for r in trial["rows"] if r.get("contender") == gpu.CUDNN} == {1}


def test_what_is_absent_is_said(trial):
    measured = any(r["contender"].startswith("flashrnn") for r in trial["rows"])
    assert measured or "flashrnn" in gpu_report.markdown(trial).splitlines()[-1]


def test_the_plans_are_put_back(monkeypatch):
    seen, before = [], triton.BUSY
    gpu._with_busy(0, lambda: seen.append(triton.BUSY))()
    assert (seen, triton.BUSY) == ([0], before)


def test_cudnns_switch_is_put_back():
    before = torch.backends.cudnn.allow_tf32
    with gpu._products("fp32", "cpu"):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_results_file_reads_back_and_shows(trial, tmp_path, capsys):
    path = tmp_path / "bench" / "cuda.json"
    gpu_report.save(path, trial)
    assert gpu_report.read(path) == json.loads(json.dumps(trial))
    assert main(["bench", "--device", "cuda", "--show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "over one nn.LSTM" in shown
    assert "36 networks, 100 epochs" in shown


def test_shares_and_projections_are_computed_from_the_times():
    """Half a second at a ceiling of the shape's own operations each second is twice the ceiling."""
    shape = gpu.PAPER["words"]._replace(R=2)
    row = {"part": "shapes", "name": "words", "precision": "fp32", "peak_bytes": 5_000_000}
    rows = [
        row | {"shape": list(shape), "contender": gpu.OURS, "seconds": [0.5] * 3},
        row | {"shape": list(shape._replace(R=1)), "contender": gpu.CUDNN, "seconds": [1.0] * 3},
        row | {"part": "updates", "networks": 13, "contender": gpu.OURS, "seconds": [0.01] * 3},
    ]
    run = {
        "machine": gpu.machine("cpu"), "absent": {}, "rows": rows,
        "ceilings": {"fp32": float(shape.flops), "bandwidth": float(2 * shape.bytes)},
        "options": TRIAL._replace(precisions=("fp32",), scale=1)._asdict(),
    }  # fmt: skip
    ours, _, update = (
        line for line in gpu_report.markdown(run).splitlines() if line.startswith("| words")
    )
    assert "| 0.50 | 4.0 | 200.0 % | 100.0 % | 5 |" in ours
    # 830 updates an epoch, 40 epochs, 26 networks in two tables of 13, 10 ms each
    assert update.endswith("| 26 networks, 40 epochs | 11.1 min |")


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 9}', '{"schema": 1}', "[" * 99999],
                         ids=lambda text: text[:30])  # fmt: skip
def test_another_file_is_refused(text: str, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="other.json is no results file of the bench on a GPU"):
        gpu_report.read(path)


@pytest.mark.parametrize("key", ["machine", "ceilings", "options", "absent", "rows"])
def test_a_run_of_another_form_is_refused(key: str, tmp_path, trial):
    path = tmp_path / "other.json"
    for value in (None, [1]):
        path.write_text(json.dumps(trial | {key: value}))
        with pytest.raises(ValueError, match="other.json is no results file of the bench on a GPU"):
            gpu_report.read(path)


def test_a_bench_on_a_cpu_is_none_on_a_gpu(trial, tmp_path):
    gpu_report.save(tmp_path / "cuda.json", trial)
    with pytest.raises(ValueError, match="cuda.json is no results file of the bench: KeyError"):
        report.read(tmp_path / "cuda.json")


def test_an_unknown_shape_is_refused(capsys):
    assert main(["bench", "--device", "cuda", "--shapes", "wordz"]) == 2
    assert "shape 'wordz' is unknown; choose from order, words" in capsys.readouterr().err


def test_results_that_are_there_are_not_measured_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "measure", lambda *_, **__: pytest.fail("measured all the same"))
    path = tmp_path / "cuda.json"
    path.write_text("kept")
    assert main(["bench", "--device", "cuda", "--quick", "--json", str(path)]) == 2
    assert "give a new file" in capsys.readouterr().err
    assert path.read_text() == "kept"


@pytest.mark.skipif(ON_GPU, reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert main(["bench", "--device", "cuda"]) == 2
    assert "no GPU here" in capsys.readouterr().err
