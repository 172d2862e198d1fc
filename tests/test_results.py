"""Conditions and their names, manifests, the paper's figures, and ours beside them."""

import fnmatch
import json
import os
import re
import statistics
import subprocess
import tomllib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import recdrop
from recdrop.study import files, paper, results, tables
from recdrop.study.conditions import Condition, grid, select
from recdrop.study.training import train
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import PROFILES

QUICK = {"protocol": "quick", "length": 15}


def condition(scheme="gal", rate=0.5, per="step", settings=QUICK, **other) -> Condition:
    task = other.pop("task", "temporal_order")
    return Condition(task, scheme, rate, per, settings=settings, **other)


def write(folder, c: Condition, last: dict | None = None, best: dict | None = None, **content):
    content = {"status": "finished", "curve": []} | content
    return results.write(folder, c, final={"last": last, "best": best}, **content)


# conditions


SETTINGS = st.dictionaries(
    st.sampled_from(["hidden", "lr", "protocol", "batch"]),
    st.one_of(
        st.integers(0, 3), st.sampled_from([0.5, 1.0, 2.0]), st.none(), st.text("ab", max_size=2)
    ),
)  # fmt: skip
CONDITIONS = st.builds(
    Condition, task=st.sampled_from(["word_lm", "ner"]), scheme=st.sampled_from(["gal", "moon"]),
    rate=st.sampled_from([0.1, 0.25, 0.5]), per=st.sampled_from(["step", "sequence"]),
    forward=st.booleans(), seed=st.integers(0, 3), scaling=st.sampled_from(["paper", "inverted"]),
    settings=SETTINGS,
)  # fmt: skip


def content(c: Condition) -> str:
    return json.dumps([c.task, c.scheme, c.rate, c.per, c.forward, c.seed, c.scaling,
                       sorted(c.settings.items())])  # fmt: skip


@given(CONDITIONS, CONDITIONS)
def test_two_conditions_share_a_name_only_if_they_are_the_same(a, b):
    assert (a.name == b.name) == (content(a) == content(b))


@given(CONDITIONS, SETTINGS)
def test_other_settings_are_another_name(c, settings):
    other = Condition(c.task, c.scheme, c.rate, c.per, c.forward, c.seed, c.scaling, settings)
    assert (other.name == c.name) == (content(other) == content(c))


@given(CONDITIONS, st.randoms(use_true_random=False))
def test_a_name_does_not_depend_on_the_order_of_settings(c, rng):
    settings = dict(rng.sample(list(c.settings.items()), len(c.settings)))
    other = Condition(c.task, c.scheme, c.rate, c.per, c.forward, c.seed, c.scaling, settings)
    assert other.name == c.name


@given(CONDITIONS)
def test_a_name_is_a_file_name_on_any_system(c):
    assert re.fullmatch(r"[a-z0-9_.-]{1,120}", c.name)
    assert f"seed{c.seed}" in c.name
    assert c.scheme in c.name


def test_each_profile_has_names_of_its_own():
    names = {grid("word_lm", s, ["gal"], [0.5], ["step"])[0].name for s in PROFILES.values()}
    assert len(names) == len(PROFILES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(scheme="zaremba"), "scheme='zaremba' is unknown; choose one of"),
        (dict(scheme="none"), "give rate=0, per='none'"),
        (dict(scheme="none", rate=0.0), "give rate=0, per='none'"),
        (dict(rate=1.0), "outside"),
        (dict(per="word"), "per='word'"),
        (dict(scaling="sideways"), "scaling='sideways'"),
    ],
)
def test_a_wrong_condition_is_refused(changes, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        condition(**changes)


@pytest.mark.parametrize("scheme", ["semeniuta", "gal", "moon"])
def test_a_condition_drops_what_it_says(scheme):
    drop = condition(scheme, 0.25, "sequence").recurrent_dropout
    assert drop == getattr(recdrop.RecurrentDropout, scheme)(0.25, "sequence", "paper")
    site = {"semeniuta": "update", "gal": "hidden", "moon": "cell"}[scheme]
    assert getattr(drop, site) == 0.25
    assert sum(drop.rates) == 0.25


def test_table_2_is_26_networks():
    found = grid("word_lm", {}, paper.SCHEMES, [0, 0.25, 0.5], forward=[False, True])
    assert len(found) == 26
    assert len({c.name for c in found}) == 26
    assert [c.scheme for c in found].count("none") == 2


def test_a_grid_holds_each_network_once():
    assert len(grid("t", {}, ["gal", "gal"], [0.5, 0.5], ["step"], seeds=[0, 0])) == 1
    assert len(grid("t", {}, ["none", "gal"], [0, 0.5], ["step"])) == 2
    assert len(grid("t", {}, ["none"], [0.25, 0.5], seeds=[0, 1])) == 2
    assert grid("t", {}, [], [0.5]) == []


def test_whole_number_rates_are_the_same_networks():
    assert [c.name for c in grid("t", {}, ["gal"], [0])] == [
        c.name for c in grid("t", {}, ["none"], [0.0])
    ]


# manifests


def test_a_manifest_says_how_its_figures_came_about(tmp_path):
    task = TemporalOrder("smoke")
    (m,) = train(task, grid(task.name, task.settings, ["gal"], [0.5], ["step"]), tmp_path,
                 progress=False)  # fmt: skip
    assert set(m) == {
        "schema", "name", "condition", "protocol", "status", "final", "curve", "data", "seconds",
        "seconds_on", "networks_in_table", "commits", "made_with",
    }  # fmt: skip
    assert set(m["made_with"]) == {
        "recdrop", "torch", "python", "device", "machine", "processor", "backend", "threads",
        "commit",
    }  # fmt: skip
    assert m["made_with"]["backend"] == recdrop.backend()
    assert m["commits"] == [m["made_with"]["commit"]]
    assert m["condition"]["settings"] == task.settings
    assert m["made_with"]["torch"] == torch.__version__
    assert m["made_with"]["recdrop"] == recdrop.__version__
    commit = m["made_with"]["commit"]
    assert commit == results.commit()
    assert [path.stem for path in tmp_path.glob("*.json")] == [m["name"]]


def test_a_manifest_is_read_back_as_it_was_written(tmp_path):
    c = condition()
    written = write(tmp_path, c, {"train": 1.0, "test": 0.1 + 0.2})
    assert results.read(tmp_path, c) == written
    assert results.read_all(tmp_path) == [written]
    assert results.read(tmp_path, condition(seed=1)) is None


def test_a_number_that_json_lacks_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path, condition(), {"test": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with files.atomic(path) as part:
            part.write_text("half of the n")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with files.atomic(path) as part:
        part.write_text("new")
        assert not path.exists()
        assert part.parent == path.parent, "a rename is atomic within a folder"
        assert part.suffix == ".part"
    assert path.read_text() == "new"


def test_manifests_are_found_by_task_and_in_order(tmp_path):
    final = {"train": 1.0, "test": 0.5}
    written = [
        write(tmp_path, condition(task=t, seed=s), final) for t in ("b", "a") for s in (1, 0)
    ]
    assert [m["name"] for m in results.read_all(tmp_path)] == sorted(m["name"] for m in written)
    assert {m["condition"]["task"] for m in results.read_all(tmp_path, "a")} == {"a"}
    assert results.read_all(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 99}', b'{"schema": 1}', b'"text"']
)
def test_a_damaged_manifest_is_named(damage, tmp_path):
    path = tmp_path / f"{condition().name}.json"
    path.write_bytes(damage)
    for read in (lambda: results.read(tmp_path, condition()), lambda: tables.table(1, tmp_path)):
        with pytest.raises(ValueError, match=f"{re.escape(str(path))} is not a result.*away"):
            read()


@pytest.mark.parametrize(
    "damage",
    [
        {"name": "another"}, {"status": "running"}, {"final": {}}, {"final": None},
        {"final": {"last": {"valid": 1.0, "test": 1.0}, "best": None}},
        {"final": {"last": {"valid": 1.0}, "best": {"valid": 1.0}}},
        {"final": {"last": {"test": "1.0.0"}, "best": None}},
        {"final": {"last": {"test": float("nan")}, "best": None}},
        {"curve": None}, {"curve": [1]}, {"made_with": None}, {"made_with": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_that_lacks_what_is_read_of_it_is_named(damage, tmp_path):
    """Such as one that was merged badly."""
    written = write(tmp_path, words(), *[{"valid": 1.0, "test": 0.5}] * 2)
    path = tmp_path / f"{written['name']}.json"
    path.write_text(json.dumps(written | damage))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is not a result.*away"):
        tables.table(2, tmp_path)
    for key in damage:
        path.write_text(json.dumps({k: v for k, v in written.items() if k != key}))
        with pytest.raises(ValueError, match=f"{re.escape(str(path))} is not a result.*{key}"):
            results.load(path)


@pytest.mark.parametrize(("whose", "days", "left"), [("its", 0, 1), ("its", 2, 0), ("ours", 0, 0)])
def test_a_container_of_the_same_name_may_be_writing(tmp_path, monkeypatch, whose, days, left):
    """Its processes cannot be asked for: they have numbers of their own."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine = files.processes()
    with monkeypatch.context() as there:
        there.setattr(files, "processes", lambda: "123456789" if whose == "its" else mine)
        part = files.part_of(tmp_path / "big.pt", dead.pid)
    part.touch()
    written = part.stat().st_mtime - days * 86400
    os.utime(part, (written, written))
    files.clear_parts(tmp_path)
    assert len(list(tmp_path.iterdir())) == left


def test_somebody_elses_half_files_are_left_alone(tmp_path):
    """Browsers call their downloads so."""
    names = ["ubuntu.iso.part", "big.pt.host.42.part", "film.2024.12.part", "a.part"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    files.clear_parts(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


def test_weights_are_kept_to_the_bit(tmp_path):
    weights = {"a.weight": torch.randn(3, 4), "b": torch.tensor([1e-30, -0.0])}
    results.save_weights(tmp_path, condition(), weights)
    found = results.load_weights(tmp_path, condition())
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[k], weights[k]) for k in weights)


def test_missing_weights_are_named_with_a_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{condition().name}\.npz.*fresh=True"):
        results.load_weights(tmp_path, condition())


# the paper


def test_the_papers_tables_are_whole():
    assert [len(paper.table(n)) for n in (1, 2, 3, 4)] == [12, 30, 30, 30]
    for n in (2, 3, 4):
        cells = [(r["scheme"], r["rate"], r["per"], r["forward"]) for r in paper.table(n)]
        grid_ = {(s, rate, per, fw) for s in paper.SCHEMES for fw in (False, True)
                 for rate, per in [(0.0, "none"), (0.25, "step"), (0.25, "sequence"),
                                   (0.5, "step"), (0.5, "sequence")]}  # fmt: skip
        assert set(cells) == grid_
        assert len(cells) == len(grid_)


def test_the_papers_baseline_is_one_figure_for_all_schemes():
    for n in (2, 3, 4):
        for forward in (False, True):
            rows = [r for r in paper.table(n) if not r["rate"] and r["forward"] is forward]
            assert len({(r["paper_valid"], r["paper_test"]) for r in rows}) == 1


def test_table_1_as_the_paper_has_it():
    rows = {(r["scheme"], r["per"], r["length"]): (r["paper_train"], r["paper_test"])
            for r in paper.table(1)}  # fmt: skip
    for (scheme, per, length), figures in rows.items():
        if scheme != "moon" or (per, length) == ("step", 15):
            assert figures == (100, 100)
    assert rows["moon", "step", 30] == (25, 25)
    assert rows["moon", "sequence", 15] == rows["moon", "sequence", 30] == (100, 25)


@pytest.mark.parametrize("number", [0, 5, "1"])
def test_the_paper_has_four_tables(number):
    with pytest.raises(ValueError, match="the paper has tables"):
        tables.table(number)


def test_an_installed_package_has_the_papers_figures():
    """Every data file of the package, or an installation has the code without them."""
    project = files.ROOT / "pyproject.toml"
    options = tomllib.loads(project.read_text())["tool"]["setuptools"]["package-data"]["*"]
    data = [path for path in (files.ROOT / "recdrop").rglob("*.*")
            if path.suffix not in (".py", ".pyc")]  # fmt: skip
    missing = [p.name for p in data if not any(fnmatch.fnmatch(p.name, o) for o in options)]
    assert missing == []


# ours beside the paper's


COMMON = {"table", "scheme", "rate", "per", "forward", "protocol", "n", "diverged",
          "manifests"}  # fmt: skip
FIELDS = {
    1: COMMON | {"length", "train", "train_ci", "test", "test_ci", "paper_train", "paper_test"},
    2: COMMON | {"valid", "valid_ci", "test", "test_ci", "paper_valid", "paper_test"},
}
LAST_EPOCH = {f"{k}_last{ci}" for k in ("valid", "test") for ci in ("", "_ci")}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_table_without_runs_has_the_papers_figures_and_nulls(number, tmp_path):
    rows = tables.table(number, tmp_path)
    assert len(rows) == len(paper.table(number))
    for row in rows:
        assert set(row) == (FIELDS[1] if number == 1 else FIELDS[2] | LAST_EPOCH)
        assert row["protocol"] == "paper"
        assert row["n"] == 0
        assert row["table"] == number
        assert all(isinstance(v, float) for k, v in row.items() if k.startswith("paper_"))
        assert row["test"] is row["test_ci"] is None
    json.dumps(rows, allow_nan=False)


def test_fields_have_their_types(tmp_path):
    write(tmp_path, condition(), {"train": 1.0, "test": 0.5})
    for row in tables.table(1, tmp_path):
        assert row["scheme"] in ("moon", "gal", "semeniuta")
        assert row["per"] in ("none", "step", "sequence")
        assert type(row["forward"]) is bool
        assert type(row["rate"]) is float
        assert type(row["n"]) is int
        assert row["length"] in (15, 30)


def only(rows: list[dict]) -> dict:
    (row,) = (r for r in rows if r["n"])
    return row


def test_table_1_is_mean_and_interval_over_seeds_in_percent(tmp_path):
    values = [0.1, 0.2, 0.4]
    for seed, value in enumerate(values):
        write(tmp_path, condition("moon", per="sequence", seed=seed), {"train": 1.0, "test": value})
    row = only(tables.table(1, tmp_path))
    assert (row["scheme"], row["per"], row["length"]) == ("moon", "sequence", 15)
    assert row["protocol"] == "quick"
    assert row["n"] == 3
    assert row["train"] == 100
    assert row["train_ci"] == 0
    assert row["test"] == pytest.approx(100 * statistics.mean(values))
    expected = 100 * 4.303 * statistics.stdev(values) / 3**0.5
    assert row["test_ci"] == pytest.approx(expected)


def test_one_seed_has_no_interval(tmp_path):
    write(tmp_path, condition(), {"train": 1.0, "test": 0.5})
    row = only(tables.table(1, tmp_path))
    assert row["n"] == 1
    assert row["test_ci"] is None


def test_lengths_are_rows_of_their_own(tmp_path):
    write(tmp_path, condition(), {"train": 1.0, "test": 0.5})
    write(tmp_path, condition(settings=QUICK | {"length": 30}), {"train": 1.0, "test": 0.25})
    rows = {r["length"]: r for r in tables.table(1, tmp_path) if r["n"]}
    assert {k: r["test"] for k, r in rows.items()} == {15: 50, 30: 25}
    assert {r["n"] for r in rows.values()} == {1}


def test_protocols_are_never_mixed(tmp_path):
    for protocol, value in (("quick", 0.5), ("smoke", 0.25), ("paper", 1.0)):
        settings = {"protocol": protocol, "length": 15}
        write(tmp_path, condition(settings=settings), {"train": value, "test": value})
    rows = [r for r in tables.table(1, tmp_path) if r["n"]]
    assert {r["protocol"]: r["test"] for r in rows} == {"quick": 50, "smoke": 25, "paper": 100}
    assert {r["n"] for r in rows} == {1}


def test_two_recipes_of_one_protocol_are_never_pooled(tmp_path):
    """A changed recipe leaves the old manifests in the folder; they are named."""
    for hidden in (32, 64):
        settings = QUICK | {"hidden": hidden}
        write(tmp_path, condition(settings=settings), {"train": 1.0, "test": hidden / 100})
    with pytest.raises(ValueError, match="table 1 .*'quick' with different settings.*not meant"):
        tables.table(1, tmp_path)


def test_only_the_papers_scaling_stands_beside_the_paper(tmp_path):
    write(tmp_path, condition(scaling="inverted"), {"train": 1.0, "test": 0.5})
    assert not any(row["n"] for row in tables.table(1, tmp_path))
    write(tmp_path, condition(seed=1), {"train": 1.0, "test": 0.25})
    (row,) = tables.table(1, tmp_path, scaling="inverted")
    assert (row["n"], row["test"], row["paper_test"]) == (1, 50, None)


def test_other_tasks_and_rates_stay_out(tmp_path):
    write(tmp_path, condition(rate=0.25), {"train": 1.0, "test": 0.5})
    write(tmp_path, condition(task="word_lm"), *[{"valid": 1.0, "test": 0.5}] * 2)
    assert not any(row["n"] for row in tables.table(1, tmp_path))


def words(scheme="gal", rate=0.5, per="step", **other) -> Condition:
    return condition(scheme, rate, per, task="word_lm", settings={"protocol": "quick"}, **other)


def test_table_2_shows_the_best_epoch_and_the_last(tmp_path):
    for seed, (best, last) in enumerate([(100.0, 110.0), (102.0, 108.0)]):
        write(tmp_path, words(forward=True, seed=seed),
              {"valid": last, "test": last - 5}, {"valid": best, "test": best - 5})  # fmt: skip
    row = only(tables.table(2, tmp_path))
    assert (row["forward"], row["scheme"], row["n"]) == (True, "gal", 2)
    assert (row["valid"], row["test"]) == (101, 96)
    assert (row["valid_last"], row["test_last"]) == (109, 104)
    assert row["valid_ci"] == pytest.approx(12.706 * 1.0, rel=1e-6)


def test_the_baseline_stands_in_its_row_of_every_scheme(tmp_path):
    write(tmp_path, words("none", 0.0, "none"), {"valid": 1.0, "test": 2.0},
          {"valid": 1.0, "test": 2.0})  # fmt: skip
    rows = [r for r in tables.table(2, tmp_path) if r["n"]]
    assert {r["scheme"] for r in rows} == {"moon", "gal", "semeniuta"}
    assert {(r["rate"], r["per"], r["forward"]) for r in rows} == {(0.0, "none", False)}
    assert tables.markdown(rows).count("| none | 0 | none |") == 1


def test_a_network_that_never_measured_anything_is_not_counted(tmp_path):
    """``n`` says how many figures stand behind the mean."""
    write(tmp_path, condition(seed=0), {"train": 1.0, "test": 0.5})
    write(tmp_path, condition(seed=1), None, status="diverged")
    row = only(tables.table(1, tmp_path))
    assert row["test"] == 50
    assert row["n"] == 1


@pytest.mark.parametrize(
    ("n", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (11, 2.228), (12, 2.201), (30, 2.045)]
)
def test_the_interval_is_students(n, t):
    values = [float(v % 2) for v in range(n)]
    expected = t * statistics.stdev(values) / n**0.5
    assert tables.interval(values) == pytest.approx(expected, rel=2e-3)


def test_too_few_values_have_no_interval():
    assert tables.interval([]) is None
    assert tables.interval([1.0]) is None


def test_markdown_is_a_table_a_reader_can_check(tmp_path):
    for seed, value in enumerate((0.2, 0.3)):
        write(tmp_path, condition("moon", per="sequence", seed=seed), {"train": 1.0, "test": value})
    rows = tables.table(1, tmp_path)
    shown = tables.markdown(rows).replace("\N{NO-BREAK SPACE}", " ")
    header, rule, *lines = shown.splitlines()
    assert len(lines) == len(rows)
    assert {line.count("|") for line in (header, rule, *lines)} == {header.count("|")}
    (line,) = (line for line in lines if "quick" in line)
    assert "| moon | 0.5 | sequence | 15 | quick |" in line
    assert "25.0 ± 63.5 (2)" in line
    assert sum("not yet run" in line for line in lines) == 12


def test_figures_of_another_protocol_look_different(tmp_path):
    for protocol in ("quick", "paper", "paper-bf16"):
        write(tmp_path, condition(settings=QUICK | {"protocol": protocol}),
              {"train": 1.0, "test": 1.0})  # fmt: skip
    rows = [row for row in tables.table(1, tmp_path) if row["n"]]
    shown = tables.markdown(rows).replace("\N{NO-BREAK SPACE}", " ").splitlines()[2:]
    ours = {line.split(" | ")[4]: line.split(" | ")[5] for line in shown}
    figure = "100.0 (1)"
    assert ours == {"paper": figure, "paper-bf16": f"*{figure}*", "quick": f"*{figure}*"}


def test_rows_lead_to_their_manifests(tmp_path, monkeypatch):
    """As seen from a page in notebooks/, in the order of seeds, diverged ones included."""
    write(tmp_path, condition(seed=10), {"train": 1.0, "test": 0.5})
    write(tmp_path, condition(seed=2), None, status="diverged")
    names = [condition(seed=seed).name for seed in (2, 10)]
    row = only(tables.table(1, tmp_path))
    assert row["manifests"] == names
    header, _, line = tables.markdown([row], tmp_path).splitlines()
    assert header.endswith("| manifests |")
    targets = re.findall(r"\[(\d)\]\((\S+?)\)", line)
    assert [number for number, _ in targets] == ["1", "2"]
    for (_, target), name in zip(targets, names, strict=True):
        assert (files.ROOT / "notebooks" / target).resolve() == tmp_path / f"{name}.json"
    assert tables.links(["a-b"], "book/results") == "[1](../book/results/a-b.json)"
    assert tables.links([], tmp_path) == "–"


def test_no_rows_are_said():
    assert tables.markdown([]) == "Nothing has been run yet."


def test_a_condition_that_the_paper_has_not_is_shown_beside_dashes(tmp_path):
    write(tmp_path, condition("gal", rate=0.25), {"train": 0.9, "test": 0.8})
    assert len(tables.table(1, tmp_path)) == len(paper.table(1))
    (row,) = [r for r in tables.table(1, tmp_path, beyond=True) if r["n"]]
    assert (row["rate"], row["paper_test"]) == (0.25, None)
    assert tables.markdown([row]).splitlines()[-1].endswith("| – |")


def test_the_papers_less_than_25_is_shown_as_such():
    rows = [r for r in tables.table(1, "nowhere") if r["length"] == 30 and r["per"] == "sequence"]
    assert "<25" in tables.markdown([r for r in rows if r["scheme"] == "moon"])


def test_manifests_are_selected_by_condition_and_settings(tmp_path):
    written = [write(tmp_path, condition(s, seed=n, settings=QUICK | {"length": length}))
               for s in ("gal", "moon") for n in (0, 1) for length in (15, 30)]  # fmt: skip
    assert len(select(written, scheme="gal")) == 4
    assert len(select(written, scheme="gal", length=30)) == 2
    assert select(written, scheme="moon", length=30, seed=1) == [written[-1]]
    assert select(written) == written
    assert select(written, scheme="semeniuta") == []


def test_characters_are_told_apart(tmp_path):
    """Table 3 lives in the second and third decimal."""
    c = condition(task="char_lm", settings={"protocol": "quick"})
    figures = {"valid": 1.338, "test": 1.301}
    write(tmp_path, c, figures, figures)
    rows = [r for r in tables.table(3, tmp_path) if r["n"]]
    assert "1.338" in tables.markdown(rows)


def test_damaged_weights_are_named(tmp_path):
    asked = condition()
    results.save_weights(tmp_path, asked, {"w": torch.ones(3)})
    (path,) = tmp_path.glob("*.npz")
    assert results.load_weights(tmp_path, asked)["w"].tolist() == [1, 1, 1]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=f"{path.name} does not hold weights.*fresh=True"):
        results.load_weights(tmp_path, asked)


def test_a_seed_that_diverged_is_told_beside_the_others(tmp_path):
    for seed in range(2):
        write(tmp_path, condition(seed=seed), {"train": 1.0, "test": 0.5})
    write(tmp_path, condition(seed=2), None, status="diverged")
    row = next(r for r in tables.table(1, tmp_path) if r["n"])
    assert "(2;\N{NO-BREAK SPACE}1\N{NO-BREAK SPACE}diverged)" in tables.markdown([row])


def test_an_installed_package_names_no_commit(tmp_path, monkeypatch):
    """It may lie within somebody else's repository."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.commit.__wrapped__() is None


def test_a_difference_is_ours_less_the_papers(tmp_path):
    settings = {"protocol": "paper", "length": 15}
    write(
        tmp_path, condition("moon", per="sequence", settings=settings), {"train": 0.9, "test": 0.3}
    )
    (row,) = [r for r in tables.table(1, tmp_path) if r["n"]]
    cells = tables.markdown([row]).splitlines()[-1].split(" | ")[-6:]
    assert [c.strip(" |") for c in cells] == [
        "90.0\N{NO-BREAK SPACE}(1)", "100", "-10.0", "30.0\N{NO-BREAK SPACE}(1)", "25", "+5.0",
    ]  # fmt: skip


def test_beside_a_smoke_run_the_papers_figures_are_left_out(tmp_path):
    settings = {"protocol": "smoke", "length": 15}
    write(tmp_path, condition(settings=settings), {"train": 0.9, "test": 0.3})
    (row,) = [r for r in tables.table(1, tmp_path) if r["n"]]
    assert tables.markdown([row]).splitlines()[-1].split(" | ")[-3:-1] == [
        "–",
        "*30.0\N{NO-BREAK SPACE}(1)*",
    ]


def test_less_than_is_said_of_the_test_alone():
    rows = [r for r in tables.table(1, "nowhere") if r["length"] == 30 and r["per"] == "sequence"]
    assert tables.markdown([r for r in rows if r["scheme"] == "moon"]).count("<") == 1


def test_a_summary_has_the_mean_of_what_finished(tmp_path):
    write(tmp_path, condition(), {"train": 1.0, "test": 0.2}, {"train": 1.0, "test": 0.4})
    write(tmp_path, condition(seed=1), {"train": 0.8, "test": 0.2}, {"train": 0.6, "test": 0.6})
    write(tmp_path, condition(seed=2), None, status="diverged")
    found = results.read_all(tmp_path)
    (line,) = tables.summary(found, tmp_path, ("train", "test"), "best", 100).splitlines()[2:]
    assert line.startswith("| gal 0.5 per step | 80.0 ± 254.1 | 50.0 ± 127.1 | 2 | 1 | [1](")
    (line,) = tables.summary(found, tmp_path, ("train",), factor=100).splitlines()[2:]
    assert line.startswith("| gal 0.5 per step | 90.0 ± ")


def test_a_gap_is_how_much_worse_unseen_text_is(tmp_path):
    c = condition(task="word_lm", settings={"protocol": "quick"})
    last = {"train": 50.0, "valid": 100.0, "test": 90.0}
    (line,) = tables.gaps([write(tmp_path, c, last, last)], tmp_path).splitlines()[2:]
    assert line.startswith("| gal 0.5 per step, seed 0 | 50.0 | 100.0 | 2.00 |")


def test_a_commit_is_dirty_where_the_packages_code_differs(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "recdrop").mkdir()
    code = tmp_path / "recdrop" / "code.py"
    for path in (tmp_path / "pyproject.toml", code):
        path.touch()
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        git(*words)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "result.json").touch()
    assert results.commit.__wrapped__() == git("rev-parse", "HEAD")
    code.write_text("changed")
    assert results.commit.__wrapped__() == git("rev-parse", "HEAD") + "-dirty"


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    for name in ("fsync", "replace"):
        done = getattr(os, name)
        monkeypatch.setattr(files.os, name, lambda *a, n=name, f=done: (seen.append(n), f(*a)))
    with files.atomic(tmp_path / "file") as part:
        part.write_text("new")
    assert seen == ["fsync", "replace", "fsync"], "the file, and the folder with its name"


@pytest.mark.parametrize("schema", [0, results.SCHEMA + 1])
def test_a_manifest_of_another_schema_is_refused(schema, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SCHEMA", schema)
    written = write(tmp_path, condition(), {"train": 1.0, "test": 0.5})
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"schema {schema}; this version reads 1 to"):
        results.load(tmp_path / f"{written['name']}.json")
