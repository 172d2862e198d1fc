"""Chapters on a machine that has no corpus and no network: what is read, said, and left alone."""

from dataclasses import replace

import pytest
from chapters import parameters

from recdrop.data import download, ptb
from recdrop.data.download import CorpusMissing
from recdrop.study import results, run
from recdrop.study.conditions import grid
from recdrop.tasks.word_lm import WordLanguageModel


@pytest.fixture
def no_corpus(monkeypatch, tmp_path):
    monkeypatch.delenv("RECDROP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ptb, "BASE", "http://127.0.0.1:9/")  # nobody listens there
    monkeypatch.setattr(download, "PAUSES", ())


def test_finished_results_need_no_corpus(no_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(ptb, "words", lambda *_: pytest.fail("the corpus was asked for"))
    task = WordLanguageModel("quick")
    (condition,) = grid(task.name, task.settings, ["gal"], [0.5], ["step"])
    final = dict.fromkeys(("last", "best"), {"valid": 1.0, "test": 1.0})
    written = results.write(tmp_path, condition, status="finished", curve=[], final=final)
    assert run.word_lm(parameters(tmp_path, profile="quick")) == [written]


def test_without_the_corpus_a_grammar_is_used_and_said(no_corpus, tmp_path, capsys):
    (manifest,) = run.word_lm(parameters(tmp_path, profile="quick"))
    assert manifest["protocol"] == "smoke"
    assert manifest["data"]["corpus"] == "generated grammar"
    said = capsys.readouterr().err
    assert "generated grammar" in said
    assert "no figure below can be compared with the paper's" in said


def test_without_the_corpus_the_books_results_stay_what_they_are(no_corpus, monkeypatch):
    """As smoke runs that are asked for do, which go elsewhere."""
    asked, train = [], run.train
    made = [{"protocol": "smoke"}]

    def stand_in(task, conditions, results_dir, *rest, **options):
        if task.settings["protocol"] != "smoke":
            return train(task, conditions, results_dir, *rest, **options)
        asked.append(results_dir)
        return made

    monkeypatch.setattr(run, "train", stand_in)
    p = parameters("book/results", profile="quick")
    q = replace(p, results_dir="book/results/beyond", seeds=[77])
    found = run.word_lm(replace(p, seeds=[77])), run.word_lm(q)
    assert asked == ["runs/smoke", "runs/smoke/beyond"]
    assert [run.where(p, m).results_dir for m in found] == ["runs/smoke"] * 2
    assert run.where(p, [{"protocol": "quick"}]) == p
    assert run.where(p, [{"protocol": "smoke-given-vectors"}]).results_dir == "runs/smoke"


def test_a_folder_without_the_corpus_is_an_error(no_corpus, tmp_path):
    with pytest.raises(CorpusMissing, match="data_dir=.*nowhere"):
        run.word_lm(parameters(tmp_path, data_dir=str(tmp_path / "nowhere"), profile="quick"))
