"""``recdrop data``: what is here, what is fetched, what is verified, and the exit status."""

import functools
import http.server
import os
import threading

import pytest
from small_corpora import BIO, IOB1, PTB, archive, listing, put, take_the_place_of_the_real_ones

from recdrop import cli
from recdrop.data import conll2003, download, inventory, ptb
from recdrop.study import files

FOLDER_GIVEN = os.environ.get("RECDROP_DATA")
COUNTS = {
    "tokens": (8, 3, 4),
    "sentences": (2, 1, 1),
    "vocabulary": (6,),
    "characters": (26, 8, 12),
    "symbols": (16,),
}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "PAUSES", ())
    monkeypatch.setattr(ptb, "COUNTS", COUNTS)
    return take_the_place_of_the_real_ones(monkeypatch, tmp_path)


@pytest.fixture
def mine(cache, tmp_path):
    """Both texts, and not the vectors."""
    put(tmp_path / "mine" / "ptb", PTB)
    return put(tmp_path / "mine" / "conll2003", IOB1).parent


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("asked the network"))


@pytest.fixture
def network(cache, tmp_path, monkeypatch):
    folder = put(tmp_path / "served", PTB)
    archive(folder / "conll2003.zip")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        for module in (ptb, conll2003):
            monkeypatch.setattr(module, "BASE", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()


def run(*arguments) -> int:
    return cli.main(["data", *map(str, arguments)])


def states(findings) -> dict[str, str]:
    return {finding.corpus: finding.state for finding in findings}


# status


def test_status_says_where_each_corpus_lies(mine, cache, no_network, monkeypatch, capsys):
    assert run("status", "--data-dir", mine) == 0
    said = capsys.readouterr().out
    assert f"found      data_dir: {mine / 'ptb'}" in said
    assert "word2vec   absent     recdrop data fetch word2vec" in said
    monkeypatch.setenv("RECDROP_DATA", str(mine))
    run("status")
    assert f"found      RECDROP_DATA: {mine / 'conll2003'}" in capsys.readouterr().out
    monkeypatch.delenv("RECDROP_DATA")
    put(cache / "ptb", PTB)
    run("status")
    said = capsys.readouterr().out
    assert f"found      cache: {cache / 'ptb'}" in said
    assert "conll2003  absent" in said


def test_a_relative_folder_starts_at_the_projects_root(mine, no_network, monkeypatch, capsys):
    monkeypatch.setattr(files, "ROOT", mine.parent)
    (mine.parent / "pyproject.toml").touch()
    monkeypatch.chdir(mine)
    assert run("status", "--data-dir", "mine") == 0
    assert f"found      data_dir: {mine / 'ptb'}" in capsys.readouterr().out


def test_status_names_the_files_to_put_where(cache, no_network, capsys):
    assert run("status") == 0
    said = capsys.readouterr().out
    for name in (*PTB, *IOB1, *BIO, "conll2003.zip", "word2vec-google-news-300.gz", "RECDROP_DATA"):
        assert name in said
    assert not cache.exists()


def test_status_does_not_read(mine, no_network, capsys):
    (mine / "ptb" / "ptb.test.txt").write_text("damaged")
    (mine / "conll2003" / "eng.testa").unlink()
    assert run("status", "--data-dir", mine) == 0
    said = capsys.readouterr().out
    assert "ptb        found" in said
    assert "conll2003  incomplete data_dir: no eng.testa" in said


# verify


def test_verify_shows_counts_beside_those_expected(mine, no_network, capsys):
    assert run("verify", "--data-dir", mine) == 0
    said = capsys.readouterr().out
    assert "    tokens       8 / 3 / 4, expected 8 / 3 / 4" in said
    assert "    characters   26 / 8 / 12, expected 26 / 8 / 12" in said
    assert "    tokens       5 / 2 / 1, expected 5 / 2 / 1" in said
    assert "word2vec   absent" in said


def test_verify_lists_what_is_absent_and_succeeds(cache, no_network, capsys):
    assert run("verify") == 0
    assert capsys.readouterr().out.count(" absent ") == 3
    assert not cache.exists()


def test_verify_fails_on_a_damaged_file_and_goes_on(mine, no_network, capsys):
    path = mine / "ptb" / "ptb.valid.txt"
    path.write_text("damaged")
    assert run("verify", "--data-dir", mine) == 1
    said = capsys.readouterr().out
    assert f"ptb        damaged    {path} has SHA-256" in said
    assert "conll2003  found" in said
    assert path.read_text() == "damaged"


def test_verify_goes_on_after_a_file_that_cannot_be_read(mine, no_network, monkeypatch):
    def denied(place):
        if place.folder.name == "ptb":
            raise PermissionError(13, "Permission denied", str(place.folder))
        return verified(place)

    verified = inventory.verified
    monkeypatch.setattr(inventory, "verified", denied)
    ptb_, conll, _ = inventory.verify(mine)
    assert ptb_.state == "damaged"
    assert "Permission denied" in ptb_.text
    assert conll.corpus == "conll2003"


@pytest.mark.parametrize("text", ["Oslo NNP I-NP B-LOC\n. . O O\n", "Oslo\n", "Oslo NNP X S-LOC"])
def test_verify_fails_on_files_without_hashes_that_hold_another_text(
    cache, tmp_path, no_network, text, capsys
):
    folder = put(tmp_path / "mine", BIO)
    assert run("verify", "--data-dir", folder) == 0
    put(folder, {"test.txt": text})
    assert run("verify", "--data-dir", folder) == 1
    assert "conll2003  damaged" in capsys.readouterr().out


def test_verify_fails_on_a_corpus_in_part(mine, no_network, capsys):
    (mine / "conll2003" / "eng.testb").unlink()
    assert run("verify", "--data-dir", mine) == 1
    assert "conll2003  incomplete data_dir: no eng.testb in" in capsys.readouterr().out


def test_verify_fails_where_counts_differ(mine, no_network, monkeypatch):
    monkeypatch.setattr(ptb, "COUNTS", COUNTS | {"symbols": (17,)})
    assert states(inventory.verify(mine)) == {
        "ptb": "damaged", "conll2003": "found", "word2vec": "absent"
    }  # fmt: skip


# fetch


def test_fetch_brings_all_but_the_large(network, cache, capsys):
    assert run("fetch") == 0
    assert listing(cache) == sorted([*PTB, "conll2003.zip"])
    said = capsys.readouterr().out
    assert "Linguistic Data Consortium" in said
    assert "Reuters" in said
    assert states(inventory.verify()) == {
        "ptb": "found", "conll2003": "found", "word2vec": "absent"
    }  # fmt: skip


def test_fetch_brings_what_is_named(network, cache):
    assert run("fetch", "conll2003") == 0
    assert listing(cache) == ["conll2003.zip"]
    assert run("fetch", "ptb", "conll2003") == 0
    assert listing(cache) == sorted([*PTB, "conll2003.zip"])


def test_fetch_leaves_alone_what_is_there(mine, no_network, capsys):
    assert run("fetch", "--data-dir", mine) == 0
    assert str(mine / "ptb" / "ptb.train.txt") in capsys.readouterr().out


def test_fetch_fails_where_one_does_and_goes_on(network, cache, capsys):
    (network / "ptb.train.txt").write_text("another text")
    assert run("fetch") == 1
    said = capsys.readouterr().out
    assert "ptb        failed     ptb.train.txt could not be downloaded" in said
    assert listing(cache) == ["conll2003.zip"]


def test_fetch_fails_on_a_damaged_file_and_leaves_it(network, cache, capsys):
    path = put(cache / "ptb", PTB | {"ptb.train.txt": "damaged"}) / "ptb.train.txt"
    assert run("fetch", "ptb") == 1
    assert f"ptb        damaged    {path} has SHA-256" in capsys.readouterr().out
    assert path.read_text() == "damaged"


# wrong calls


@pytest.mark.parametrize("action", ["status", "verify", "fetch"])
def test_a_mistyped_folder_is_a_wrong_call(cache, no_network, action, tmp_path, capsys):
    code = run(action, "--data-dir", tmp_path / "nowhere")
    assert "nowhere is not a folder" in "".join(capsys.readouterr())
    assert code == 2


def test_an_unknown_corpus_is_a_wrong_call(cache, no_network, capsys):
    assert run("fetch", "ptb", "wikipedia") == 2
    assert "no corpus 'wikipedia'; there are ptb, conll2003, word2vec" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["delete"], ["verify", "ptb"], ["status", "--fetch"]])
def test_an_unknown_action_is_a_wrong_call(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


@pytest.mark.skipif(not FOLDER_GIVEN, reason="RECDROP_DATA is not set: no licensed corpus here")
def test_the_real_corpora_have_their_published_counts(no_network, capsys):
    assert run("verify") == 0
    said = capsys.readouterr().out
    assert "929,589 / 73,760 / 82,430, expected 929,589 / 73,760 / 82,430" in said
    assert "203,621 / 51,362 / 46,435, expected 203,621 / 51,362 / 46,435" in said
