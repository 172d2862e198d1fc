"""The command ``recdrop``: what it prints, where, and with which exit status."""

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from importlib.metadata import entry_points

import pytest

from recdrop import cli
from recdrop.study import grids, rerun, results, slices, tables
from recdrop.study.conditions import Condition


@pytest.fixture
def folder(tmp_path):
    """Two seeds of one network."""
    for seed, test in enumerate((0.2, 0.3)):
        c = Condition("temporal_order", "moon", 0.5, "sequence", seed=seed,
                      settings={"protocol": "quick", "length": 15})  # fmt: skip
        last = {"train": 1.0, "test": test}
        results.write(tmp_path, c, status="finished", curve=[], final={"last": last, "best": None})
    return tmp_path


def run(*arguments) -> int:
    return cli.main([str(a) for a in arguments])


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="recdrop")
    assert command.load() is cli.main


def test_json_is_the_table_and_nothing_else(folder, capsys):
    assert run("results", "--table", 1, "--results-dir", folder, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == tables.table(1, folder, beyond=True)
    assert shown.err == ""


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_json_has_an_object_for_each_condition_of_the_paper(number, tmp_path, capsys):
    assert run("results", "--table", number, "--results-dir", tmp_path, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == (12 if number == 1 else 30)
    required = {"table", "scheme", "rate", "per", "forward", "protocol", "n"}
    required |= {"test", "test_ci", "paper_test"}
    required |= {"length", "train", "paper_train"} if number == 1 else {"valid", "valid_ci"}
    required |= set() if number == 1 else {"paper_valid"}
    for row in rows:
        assert required <= set(row)
        assert row["n"] == 0
        assert row["test"] is None


def test_the_table_shows_what_was_run(folder, capsys):
    assert run("results", "--table", 1, "--results-dir", folder) == 0
    shown = capsys.readouterr().out
    assert "Table 1" in shown
    assert "interval" in shown
    assert tables.markdown([r for r in tables.table(1, folder) if r["n"]]) in shown


def test_all_shows_what_was_not(folder, capsys):
    run("results", "--table", 1, "--results-dir", folder, "--all")
    assert tables.markdown(tables.table(1, folder)) in capsys.readouterr().out


def test_an_empty_folder_is_said_and_an_absent_one_an_error(tmp_path, capsys):
    assert run("results", "--table", 2, "--results-dir", tmp_path) == 0
    assert f"Nothing has been run yet in {tmp_path}." in capsys.readouterr().out
    assert run("results", "--table", 2, "--results-dir", tmp_path / "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_relative_folder_starts_at_the_projects_root(tmp_path, monkeypatch, capsys):
    run("results", "--table", 1, "--json")
    from_root = capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    run("results", "--table", 1, "--json", "--results-dir", "book/results")
    assert capsys.readouterr().out == from_root


@pytest.mark.parametrize("damage", ["{", '{"schema": 1}'])
def test_a_damaged_manifest_is_an_error_and_no_traceback(damage, folder, capsys):
    (folder / "temporal_order-damaged.json").write_text(damage)
    assert run("results", "--table", 1, "--results-dir", folder) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("recdrop: ")
    assert "temporal_order-damaged.json" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["result"], "invalid choice: 'result'"),
        (["results"], "--table"),
        (["results", "--table", "5"], "invalid choice: 5"),
        (["results", "--table", "one"], "invalid int value: 'one'"),
        (["figure", "effect"], "--out"),
        (["figure", "cat", "--out", "cat.svg"], "invalid choice: 'cat'"),
    ],
)
def test_a_wrong_call_is_explained(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_figure_is_written_into_a_new_folder(tmp_path, suffix):
    path = tmp_path / "deep" / f"schemes.{suffix}"
    assert run("figure", "schemes", "--out", path) == 0
    assert path.read_bytes().startswith(b"<svg" if suffix == "svg" else b"\x89PNG")


def test_a_figure_without_results_says_what_to_run(tmp_path, capsys):
    out = tmp_path / "effect.svg"
    assert run("figure", "effect", "--results-dir", tmp_path, "--out", out) == 2
    assert "run notebook 02" in capsys.readouterr().err
    assert not out.exists()


def test_an_unknown_format_is_refused(tmp_path, capsys):
    assert run("figure", "schemes", "--out", tmp_path / "schemes.docx") == 2
    assert "docx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (ModuleNotFoundError("No module named 'tqdm'", name="tqdm"), 2, "pip install 'recdrop[st"),
        (ImportError("F1 takes seqeval: pip install ..."), 2, "recdrop: F1 takes seqeval"),
    ],
)
def test_what_ends_a_command_is_no_traceback(error, code: int, said: str, monkeypatch, capsys):
    def ends(_):
        raise error

    monkeypatch.setattr(cli, "_results", ends)
    assert run("results", "--table", 1) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--table", 1, "--at-once", -3, "--budget", "60s"], "at_once=-3 trains nothing"),
        (["bench", "--threads", "a"], "--threads 'a' is no list of numbers"),
        (["bench", "--device", "cuda", "--dtype", "bf16"], "--dtype is for --device cpu"),
        (["bench", "--parts", ""], "part '' is unknown; choose from shapes"),
        (["bench", "--parts", "steps", "--beside", "words"], "--beside is of the part peers"),
        (["bench", "--parts", "steps", "--compile"], "--compile is of the part peers"),
        (["bench", "--parts", "output,peers", "--shapes", "words"], "--shapes is of the part sh"),
    ],
)
def test_a_number_that_is_none_and_a_flag_without_use(arguments, said: str, tmp_path, capsys):
    if arguments[0] == "train":
        arguments += ["--results-dir", tmp_path]
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err


def test_no_folder_is_not_the_projects_own(tmp_path, capsys):
    """`--results-dir "$DIR"` where the variable is not set."""
    table = ["--table", 1, "--profile", "smoke", "--results-dir", ""]
    for arguments in (["train", *table], ["results", *table[:2], *table[4:]]):
        assert run(*arguments) == 2
        assert "'' names no folder" in capsys.readouterr().err


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_training_goes_on_when_nobody_reads_what_it_says(stream: str, tmp_path):
    read, write = os.pipe()
    os.close(read)
    arguments = ["--table=1", "--profile=smoke", "--lengths=15", "--schemes=gal", "--seeds=0"]
    arguments += ["--samplings=step", f"--results-dir={tmp_path}"]
    ended = subprocess.run(
        [sys.executable, "-m", "recdrop", "train", *arguments], **{stream: write}, timeout=300
    )
    os.close(write)
    assert ended.returncode == 0
    assert len(list(tmp_path.glob("*-*.json"))) == 1


def test_a_table_shown_to_nobody_is_no_error(folder):
    read, write = os.pipe()
    os.close(read)
    arguments = ["results", "--table=1", f"--results-dir={folder}"]
    shown = subprocess.run(
        [sys.executable, "-m", "recdrop", *arguments], stdout=write, stderr=subprocess.PIPE,
        timeout=300,
    )  # fmt: skip
    os.close(write)
    assert b"Traceback" not in shown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["figure", "schemes", "--out", ""],
        ["data", "status", "--data-dir", ""],
        ["status", ""],
        ["run", "notebooks/02_memory_loss.ipynb", "--out", ""],
    ],
)
def test_an_empty_path_is_refused(arguments, capsys):
    assert run(*arguments) == 2
    assert re.search(r"'\.?' names no (folder|file)", capsys.readouterr().err)


def test_a_terminal_without_unicode_is_shown_what_it_can(folder):
    arguments = ["results", "--table=1", f"--results-dir={folder}"]
    shown = subprocess.run(
        [sys.executable, "-m", "recdrop", *arguments], capture_output=True, timeout=300,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert shown.returncode == 0
    assert b"Table 1: mean ? 95 % interval" in shown.stdout


def test_a_kernel_that_is_not_to_be_had_is_no_traceback(tmp_path):
    """Of a machine without a compiler, where one insists on the kernel."""
    arguments = ["train", "--table=1", "--profile=smoke", f"--results-dir={tmp_path}"]
    place = {"CXX": "none-such", "XDG_CACHE_HOME": str(tmp_path), "RECDROP_BACKEND": "cpu"}
    ended = subprocess.run(
        [sys.executable, "-m", "recdrop", *arguments], env=os.environ | place, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "RECDROP_BACKEND=cpu, but the kernel cannot be built" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_option_of_train_reaches_it(tmp_path, monkeypatch):
    given, went = [], []
    monkeypatch.setattr(grids, "works", lambda *a: given.append(a) or ["work"])
    monkeypatch.setattr(slices, "run", lambda *a: went.append(a) or slices.Outcome(1, 1, 0.0))
    words = (
        "train --table 4 --profile reduced --device cuda --precision tf32 --budget 9m --at-once 3"
    )
    words += " --results-dir r --data-dir d --vectors v --seeds 0,1 --scaling inverted"
    assert cli.main(words.split()) == 0
    assert given == [(4, "reduced", {"seeds": "0,1"}, "cuda", "tf32", "d", "v", "inverted")]
    assert went == [(["work"], "r", "cuda", 540.0, 3)]


def test_every_option_of_rerunreaches_it(monkeypatch):
    given = []
    monkeypatch.setattr(
        rerun, "rerun", lambda *a: given.append(a) or Namespace(differences=("one",))
    )
    words = "rerun m.json --results-dir r --data-dir d --vectors v --device cuda"
    assert cli.main(words.split()) == 1
    assert given == [("m.json", "r", "d", "v", "cuda")]
