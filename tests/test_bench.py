"""The bench: what it says, not how fast. No test here depends on a time."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recdrop import cli
from recdrop.bench import contenders, machine, report, run, steps
from recdrop.bench.measure import interleaved, peak_allocated, peak_resident, ratios, spread
from recdrop.bench.shapes import PAPER, SHAPES, Shape, named, sweep

TINY = Shape(2, 3, 4, 5, 6)


@pytest.fixture(scope="module")
def trial() -> dict:
    return run.measure(run.TRIAL)


# statistics


def test_rounds_interleave_all_calls_after_one_to_warm_up():
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "abc"}
    times = interleaved(calls, rounds=4)
    assert seen == list("abc") * 5
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abc", 4)


def test_rounds_end_with_the_time_but_not_before_three():
    times = interleaved({"a": lambda: None}, rounds=100, seconds=0.0)
    assert len(times["a"]) == 3


def test_ratios_are_taken_round_by_round():
    """A disturbance that doubles all times of a round leaves the ratios as they are."""
    times = {"ours": [1.0, 2.0, 1.0], "base": [2.0, 4.0, 2.0]}
    assert ratios(times, "base") == {"ours": (0.5, 0.5, 0.5), "base": (1.0, 1.0, 1.0)}


def test_one_outlier_moves_neither_median_nor_quartiles_far():
    assert spread([1.0] * 9 + [1000.0]) == (1.0, 1.0, 1.0)


def test_allocated_memory_is_counted_to_the_byte():
    def call():
        a = torch.empty(1000)
        b = torch.empty(500)
        del a
        return b, torch.empty(100)

    assert peak_allocated(call) == 4 * 1500


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux says it alone")
def test_resident_memory_is_that_of_the_peak():
    megabytes = peak_resident(lambda: torch.ones(50 << 18).sum()) / 1e6
    assert 45 < megabytes < 70


def test_resident_memory_is_none_where_the_system_does_not_say(monkeypatch):
    def absent(*_):
        raise OSError

    monkeypatch.setattr("recdrop.bench.measure._status", absent)
    assert peak_resident(lambda: None) is None


# machine


def test_the_machine_is_described():
    found = machine.describe(3)
    assert found["threads"] == 3
    assert found["torch"] == torch.__version__
    assert found["cores"] >= 1
    assert all(found[key] for key in ("cpu", "system", "python", "capability", "backend"))
    assert json.loads(json.dumps(found)) == found


def test_ceilings_are_positive():
    found = machine.ceilings(0.0, size=32, megabytes=1)
    assert set(found) == {"fp32", "bf16", "bandwidth"}
    assert all(value > 0 for value in found.values())


@pytest.mark.parametrize(("used", "busy"), [((10.0, 10.0), False), ((10.0, 1e6), True)])
def test_other_processes_are_noticed(used, busy, monkeypatch):
    moments = iter(used)
    monkeypatch.setattr(machine, "_used", lambda: next(moments))
    with machine.Others() as others:
        pass
    assert others.found["busy"] is busy


def test_where_the_system_does_not_say_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr(machine, "_used", lambda: None)
    with machine.Others() as others:
        pass
    assert others.found["others"] is None
    assert others.found["busy"] is None


# shapes


def test_shapes_are_the_papers_alone_and_as_a_table():
    assert PAPER["words"] == (1, 35, 32, 256, 256, "tanh")
    assert PAPER["entities"].activation == "relu"
    assert {name: shape.R for name, shape in SHAPES.items()} == {
        name: 8 if name.endswith("-8") else 1 for name in SHAPES
    }


def test_the_bound_is_that_of_the_scarcer_resource():
    ceilings = {"fp32": 1.0, "bf16": 2.0, "bandwidth": 1e30}
    assert TINY.flops == 3 * 2 * 2 * 3 * 4 * (4 * 6) * (5 + 6)
    assert TINY.bound(ceilings) == TINY.flops
    assert TINY.bound(ceilings, "bf16") == TINY.flops / 2
    assert TINY.bound({"fp32": 1e30, "bandwidth": 2.0}) == TINY.bytes / 2


def test_a_sweep_changes_one_size_at_a_time():
    words = PAPER["words"]
    for name, shape in sweep().items():
        axis, value = name.split("=")
        assert getattr(shape, axis) == int(value)
        changed = {k for k in words._fields if getattr(shape, k) != getattr(words, k)}
        assert changed <= ({"H", "I"} if axis == "H" else {axis})


@pytest.mark.parametrize("name", ["word", "1x2x3", "1x2x3x4x0", "ax2x3x4x5", ""])
def test_an_unknown_shape_is_refused(name):
    with pytest.raises(ValueError, match="choose from order"):
        named(name)


# contenders


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("R", [1, 2])
def test_contenders_do_the_work_that_the_shape_says(R, dtype):
    shape = TINY._replace(R=R)
    found, absent = contenders.contenders(shape, (dtype,), ("naive loop",))
    assert next(iter(found)) == contenders.BASE
    assert (("naive loop", "fp32") in found) == (R == 1)
    lacking = "nn.LSTM in bfloat16" in absent  # as the processor may
    assert set(absent) <= {"nn.LSTM in bfloat16"}
    assert ((contenders.BASE[0], "bf16") in found) == (dtype == "bf16" and not lacking)
    for passes in found.values():
        assert passes.forward().shape == (R, shape.T, shape.B, shape.H)
        passes.both()


def test_where_torch_has_no_lstm_in_bfloat16_it_is_said_to_be_absent(monkeypatch):
    monkeypatch.setattr(contenders, "torch_runs_lstm", lambda _: False)
    found, absent = contenders.contenders(TINY, ("bf16",), fallback=False)
    assert list(found) == [contenders.BASE, (contenders.OURS, "bf16")]
    assert absent == contenders.LACKING


def test_our_contender_does_drop():
    """Two passes differ: masks are on, and drawn anew."""
    found, _ = contenders.contenders(TINY._replace(R=1), ("fp32",))
    ours, base = found[contenders.OURS, "fp32"].forward, found[contenders.BASE].forward
    assert not torch.equal(ours(), ours())
    assert torch.equal(base(), base())


@pytest.mark.parametrize(
    ("peer", "module"), [("Keras 3, torch", "keras"), ("JAX scan", "jax")], ids=["keras", "jax"]
)
def test_a_peer_is_measured_or_said_to_be_absent(peer, module, monkeypatch):
    found, absent = contenders.contenders(TINY._replace(R=1), ("fp32",), (peer,))
    if (peer, "fp32") in found:
        found[peer, "fp32"].forward()
        found[peer, "fp32"].both()
    else:
        assert absent == {peer: "not installed"}


def test_the_backend_is_put_back(monkeypatch):
    monkeypatch.setenv("RECDROP_BACKEND", "auto")
    with contenders.use("reference"):
        assert os.environ["RECDROP_BACKEND"] == "reference"
    assert os.environ["RECDROP_BACKEND"] == "auto"


@pytest.mark.parametrize("name", ["order", "words", "characters", "entities"])
def test_a_training_step_of_every_model_changes_its_weights(name):
    benchmark = steps.benchmarks(scale=32)[name]
    for label, step in steps.steps(benchmark, ("fp32", "bf16")).items():
        (network,) = [c.cell_contents for c in step.__closure__
                      if isinstance(c.cell_contents, torch.nn.Module | steps.Replicas)]  # fmt: skip
        parameters = network.parameters
        values = list(parameters.values() if isinstance(parameters, dict) else parameters())
        before = [v.detach().clone() for v in values]
        step()
        changed = [not torch.equal(a, b) for a, b in zip(before, values, strict=True)]
        assert any(changed), label


def test_the_plain_model_is_the_same_network():
    benchmark = steps.benchmarks(scale=32)["words"]
    drop = steps.recdrop.RecurrentDropout.semeniuta(0.5)
    plain, ours = benchmark.network(None), benchmark.network(drop).eval()
    ours.load_state_dict(plain.state_dict())
    losses = [network(*benchmark.batch)[0] for network in (plain, ours)]
    torch.testing.assert_close(*losses)


# a run


def test_a_run_holds_every_part(trial):
    assert {row["part"] for row in trial["rows"]} == set(run.PARTS)
    assert json.loads(json.dumps(trial))["rows"] == trial["rows"]
    for row in trial["rows"]:
        assert len(row["seconds"]) == len(row["ratio"]) == 3
        assert row["seconds"] == sorted(row["seconds"])
        assert row["rounds"] >= 3
    base = [row for row in trial["rows"] if (row["contender"], row["dtype"]) == contenders.BASE]
    assert base
    assert all(row["ratio"] == [1.0, 1.0, 1.0] for row in base)


def test_the_fallback_is_measured_where_there_is_a_kernel(trial):
    names = {row["contender"] for row in trial["rows"]}
    assert (contenders.FALLBACK in names) != machine.backend().startswith("reference")


def test_a_results_file_grows_by_runs_and_reads_back(trial, tmp_path):
    path = tmp_path / "bench" / "cpu.json"
    report.save(path, [trial])
    report.save(path, [trial])
    record = report.read(path)
    assert record["schema"] == report.SCHEMA
    assert len(record["runs"]) == 2
    assert len(report.rows(record["runs"])) == len(trial["rows"])  # the later replaces the earlier


OTHERS = ["{", "[]", '{"schema": 0, "runs": []}', '{"schema": 1}', '{"schema": 1, "runs": []}',
          '{"schema": 1, "runs": [{}]}', '{"schema": 1, "runs": 1}', "[" * 99999]  # fmt: skip


@pytest.mark.parametrize("text", OTHERS, ids=lambda text: text[:30])
def test_another_file_is_refused(text, tmp_path, trial):
    path = tmp_path / "cpu.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="no results file of the bench"):
        report.read(path)
    with pytest.raises(ValueError, match="no results file of the bench"):
        report.save(path, [trial])
    assert path.read_text() == text


@pytest.mark.parametrize("key", ["machine", "ceilings", "others", "absent", "rows"])
@pytest.mark.parametrize("value", [None, [1]])
def test_a_run_of_another_form_is_refused(key, value, tmp_path, trial):
    path = tmp_path / "cpu.json"
    report.save(path, [trial])
    path.write_text(json.dumps({"schema": 1, "runs": [trial | {key: value}]}))
    with pytest.raises(ValueError, match="no results file of the bench"):
        report.read(path)


def test_runs_of_two_machines_are_not_in_one_file(trial, tmp_path):
    path = tmp_path / "cpu.json"
    other = trial | {"machine": trial["machine"] | {"cpu": "another"}}
    report.save(path, [other])
    with pytest.raises(ValueError, match="holds runs of .*another.*; give another file"):
        report.save(path, [trial])
    assert len(report.read(path)["runs"]) == 1


def test_a_file_that_cannot_be_added_to_is_told_of_before_measuring(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "bench", lambda *_, **__: pytest.fail("measured all the same"))
    path = tmp_path / "a.json"
    path.write_text("{}")
    assert cli.main(["bench", "--quick", "--json", str(path)]) == 2
    assert "no results file of the bench" in capsys.readouterr().err


def test_tables_have_a_cell_for_each_column(trial):
    text = report.markdown([trial])
    assert trial["machine"]["cpu"] in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    found = report.rows([trial])
    assert "| 2x3x4x5x6 | 2 × 3×4×5×6 |" in report.summary(found)
    assert "| words |" in report.training(report.select(found, part="steps"))


def test_a_busy_machine_is_said(trial):
    busy = trial | {"others": {"busy": True, "others": 1.25}}
    assert "**Busy**: other processes used 1.25 cores" in report.markdown([busy])
    assert "**Busy**" not in report.markdown([trial | {"others": {"busy": None, "others": None}}])


def test_runs_of_one_machine_share_a_line(trial):
    ceilings = {"fp32": 418e9, "bf16": 826e9, "bandwidth": 40.4e9}
    runs = [trial | {"ceilings": ceilings}, trial | {"ceilings": ceilings | {"fp32": 448e9}}]
    threads = (
        "1 thread" if trial["machine"]["threads"] == 1 else f"{trial['machine']['threads']} threads"
    )
    assert list(report.machines(runs))[1] == (
        f"With {threads}: products 418 to 448 GFLOP/s in fp32, 826 in bf16; "
        "copies 40 GB/s (2 runs)."
    )


def test_an_absent_peer_is_said_unless_another_run_has_it(trial):
    lacking = trial | {"absent": {"JAX scan": "not installed", "naive loop": "not installed"}}
    text = report.markdown([lacking, trial])
    assert "JAX scan: not installed." in text
    assert "naive loop: not installed" not in text


@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_a_notebook_reads_what_there_is_and_measures_what_there_is_not(
    profile, trial, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(run, "bench", lambda options, *_, **__: asked.append(options) or [trial])
    p = SimpleNamespace(profile=profile, results_dir=str(tmp_path), fresh=False)
    assert run.in_notebook(p) == run.in_notebook(p) == [json.loads(json.dumps(trial))]
    p.fresh = True
    assert len(run.in_notebook(p)) == 2
    assert asked == [run.TRIAL if profile == "smoke" else run.QUICK] * 2


def test_figures_show_what_was_measured(trial):
    figures = pytest.importorskip("recdrop.bench.figures", reason="figures need matplotlib")
    found = report.rows([trial])
    (ax,) = figures.ratios(found).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["2x3x4x5x6", "1x3x4x5x6"]
    panels = figures.sweep(found, trial["machine"]["threads"]).axes
    assert [ax.get_xlabel() for ax in panels] == ["H", "T", "B", "R"]
    line = next(line for line in panels[0].lines if line.get_label() == "recdrop fp32")
    rows = [row for row in report.select(found, part="sweep", contender="recdrop", dtype="fp32")
            if row["name"].startswith("H=")]  # fmt: skip
    assert list(line.get_ydata()) == [row["seconds"][1] * 1e3 for row in rows]
    (ax,) = figures.peers(found, "1x3x4x5x6", trial["machine"]["threads"]).axes
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(widths, reverse=True)
    assert 1.0 in widths


COMMITTED = report.from_root(report.default("book/results"))


@pytest.mark.parametrize("name", ["cpu.json", "cpu_amx.json"])
def test_the_readmes_tables_are_those_of_the_results_files(name: str):
    readme = (COMMITTED.parents[3] / "README.md").read_text(encoding="utf-8")
    runs = report.read(COMMITTED.with_name(name))["runs"]
    marker = f"<!-- made by: recdrop bench --show book/results/bench/{name} -->\n"
    assert readme.partition(marker)[2].startswith(report.summary(report.rows(runs)) + "\n")
    assert runs[0]["machine"]["cpu"] in readme
    assert not any(run["others"]["busy"] for run in runs)


def test_other_machines_of_a_folder_are_shown_each_by_itself(tmp_path: Path):
    assert report.elsewhere(tmp_path) == ""
    runs = report.read(COMMITTED)["runs"]
    report.save(report.default(tmp_path), runs)
    assert report.elsewhere(tmp_path) == "", "the folder's own machine is not among the others"
    for name in ("cpu_b.json", "cpu_a.json"):
        found = [run | {"machine": run["machine"] | {"cpu": name}} for run in runs]
        report.save(tmp_path / "bench" / name, found)
    text = report.elsewhere(tmp_path)
    assert text.index("cpu_a.json, 2 cores") < text.index("cpu_b.json, 2 cores")
    assert text.count(report.summary(report.rows(runs))) == 2


# the command


def test_the_command_measures_writes_and_shows(tmp_path, capsys):
    path = tmp_path / "cpu.json"
    arguments = ["bench", "--shapes", "1x2x3x4x5", "--parts", "shapes", "--threads", "1"]
    arguments += ["--dtype", "fp32", "--seconds", "0.05"]
    assert cli.main([*arguments, "--quick", "--json", str(path)]) == 0
    measured = capsys.readouterr().out
    assert "1x2x3x4x5" in measured
    (found,) = report.read(path)["runs"]
    assert found["machine"]["threads"] == 1
    assert {row["dtype"] for row in found["rows"]} == {"fp32"}
    assert cli.main(["bench", "--show", str(path)]) == 0
    assert capsys.readouterr().out == measured


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shapes", "wrods"], "shape 'wrods' is unknown"),
        (["--dtype", "fp16"], "dtype 'fp16' is unknown"),
        (["--beside", "1x2"], "shape '1x2' is unknown"),
        (["--parts", "shape"], "part 'shape' is unknown"),
        (["--threads", "0"], "threads"),
        (["--threads", "two"], "two"),
        (["--seconds", "-1"], "--seconds -1.0 is no length of time"),
        (["--show", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_wrong_call_is_explained_at_once(arguments, said, capsys):
    assert cli.main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err
