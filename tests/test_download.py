"""Where corpora are looked for, and what is done and said when files or the network fail.

A web server here plays the network; it can truncate, stall, corrupt, refuse and hang up.
"""

import hashlib
import http.server
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import PTB, listing, put, sha256, take_the_place_of_the_real_ones

from recdrop.data import download, ptb
from recdrop.data.download import CorpusDamaged, CorpusMissing, locate, verify

TRAIN = "ptb.train.txt"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))
    return take_the_place_of_the_real_ones(monkeypatch, tmp_path) / "ptb"


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("asked the network"))


# where it is looked for


@pytest.mark.parametrize("below", ["", "ptb"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_holds_the_files_or_a_folder_of_theirs(tmp_path, below, kind):
    put(tmp_path / "mine" / below, PTB)
    assert ptb.words(kind(tmp_path / "mine")).name == "Penn Treebank"


@pytest.mark.parametrize("below", ["", "ptb"])
def test_the_environment_names_a_folder(tmp_path, below, monkeypatch):
    put(tmp_path / "env" / below, PTB)
    monkeypatch.setenv("RECDROP_DATA", str(tmp_path / "env"))
    assert len(ptb.words().train) == 8


def test_an_argument_goes_before_the_environment_before_the_cache(tmp_path, monkeypatch, alone):
    folders = {"argument": tmp_path / "a", "environment": tmp_path / "e", "cache": alone}
    for folder in folders.values():
        put(folder, PTB)

    def found(data_dir=None) -> set[Path]:
        return {p.parent for p in locate(ptb.source(), data_dir).values()}

    assert found() == {folders["cache"]}
    monkeypatch.setenv("RECDROP_DATA", str(folders["environment"]))
    assert found() == {folders["environment"]}
    assert found(folders["argument"]) == {folders["argument"]}


@pytest.mark.parametrize("variable", [True, False])
def test_a_folder_of_other_corpora_is_passed_over(tmp_path, variable, monkeypatch, alone):
    """Who has one corpus in RECDROP_DATA can still have another in the cache."""
    put(alone, PTB)
    mine = put(tmp_path / "mine" / "conll2003", {"eng.train": ""}).parent
    if variable:
        monkeypatch.setenv("RECDROP_DATA", str(mine))
    paths = locate(ptb.source(), None if variable else mine, download=False)
    assert {path.parent for path in paths.values()} == {alone}


def test_an_empty_variable_is_none(monkeypatch, alone):
    put(alone, PTB)
    monkeypatch.setenv("RECDROP_DATA", "")
    assert len(ptb.words().train) == 8


def test_a_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "corpora", PTB)
    assert len(ptb.words("~/corpora").train) == 8


@pytest.mark.parametrize("variable", [True, False])
def test_a_mistyped_folder_is_named_and_nothing_is_fetched(
    tmp_path, variable, monkeypatch, alone, no_network
):
    put(alone, PTB)  # a copy in the cache is not what was asked for
    folder = str(tmp_path / "nowhere")
    if variable:
        monkeypatch.setenv("RECDROP_DATA", folder)
    with pytest.raises(CorpusMissing) as caught:
        ptb.words(None if variable else folder)
    said = str(caught.value)
    assert f"{'RECDROP_DATA' if variable else 'data_dir'}={folder}" in said
    assert "put the files there" in said
    assert all(name in said for name in PTB)


@pytest.mark.parametrize("below", ["", "ptb"])
def test_of_a_part_only_what_is_missing_is_named_and_nothing_is_fetched(
    tmp_path, below, no_network
):
    put(tmp_path / "mine" / below, {k: PTB[k] for k in (TRAIN, "ptb.test.txt")})
    with pytest.raises(CorpusMissing) as caught:
        ptb.words(tmp_path / "mine")
    said = str(caught.value)
    assert "no ptb.valid.txt in" in said
    assert str(tmp_path / "mine" / below) in said
    assert TRAIN not in said
    assert "ptb.test.txt" not in said


def test_without_download_nothing_is_fetched(alone, no_network):
    with pytest.raises(CorpusMissing, match=f"no {TRAIN}"):
        ptb.words(download=False)
    assert not alone.exists()


# damage


@pytest.mark.parametrize("damage", ["", "other", PTB["ptb.valid.txt"][:-1], " the dog \r\n"])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path, damage):
    path = put(tmp_path, PTB) / "ptb.valid.txt"
    path.write_bytes(damage.encode())
    with pytest.raises(CorpusDamaged) as caught:
        ptb.words(tmp_path)
    said = str(caught.value)
    for part in (str(path), ptb.FILES["ptb.valid.txt"], sha256(damage), "move it away"):
        assert part in said
    assert path.read_bytes() == damage.encode()


def test_a_damaged_file_in_the_cache_is_not_fetched_over(alone, no_network):
    (put(alone, PTB) / TRAIN).write_text("damaged")
    with pytest.raises(CorpusDamaged, match=TRAIN):
        ptb.words()
    assert (alone / TRAIN).read_text() == "damaged"


@given(st.binary(max_size=200), st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_is_found(tmp_path_factory, content, place, change):
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(content)
    expected = sha256(content)
    verify(path, expected)
    verify(path, "md5:" + hashlib.md5(content).hexdigest())
    changed = bytearray(content or b"x")
    changed[place % len(changed)] ^= change
    path.write_bytes(changed)
    with pytest.raises(CorpusDamaged):
        verify(path, expected)
    with pytest.raises(CorpusDamaged, match="md5"):
        verify(path, "md5:" + hashlib.md5(content).hexdigest())


# a network that works, and one that does not


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request for a file with the next deed of its list, and serves it at the end."""

    def do_GET(self) -> None:
        name, asked = self.path[1:], self.headers.get("Range")
        server = self.server
        server.asked.append((name, asked))
        deed = server.deeds.get(name, [])[:1]
        del server.deeds.get(name, [])[:1]
        content = server.files.get(name)
        if deed == ["hang up"]:
            return
        if content is None or deed == ["fail"]:
            return self.send_error(404 if content is None else 503)
        if deed == ["corrupt"]:
            content = content[:-1] + b"?"
        have = int(asked[len("bytes=") : -1]) if asked and server.resumes else 0
        self.send_response(206 if have else 200)
        self.send_header("Content-Length", str(len(content) - have))
        self.end_headers()
        body = content[have:]
        self.wfile.write(body[: len(body) // 2] if deed in (["truncate"], ["stall"]) else body)
        if deed == ["stall"]:
            self.wfile.flush()
            server.closing.wait(20)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def network(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files = {name: text.encode() for name, text in PTB.items()}
        server.deeds, server.asked, server.resumes = {}, [], True
        server.closing = threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(ptb, "BASE", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.closing.set()
        server.shutdown()


def test_a_download_is_verified_and_kept(network, alone, capsys):
    corpus = ptb.words()
    assert len(corpus.train) == 8
    assert listing(alone) == sorted(PTB)
    said = capsys.readouterr()
    assert "Linguistic Data Consortium" in said.out
    assert str(alone) in said.out
    assert f"{TRAIN}: 100%" in said.err
    network.files.clear()
    assert torch.equal(ptb.words().train, corpus.train)


def test_only_missing_files_are_downloaded(network, alone, capsys):
    put(alone, {TRAIN: PTB[TRAIN]})
    ptb.words()
    assert listing(alone) == sorted(PTB)
    assert TRAIN not in capsys.readouterr().out
    assert TRAIN not in dict(network.asked)


def test_a_folder_without_the_corpus_sends_to_the_cache(network, alone, tmp_path):
    (tmp_path / "empty").mkdir()
    assert len(ptb.words(tmp_path / "empty").train) == 8
    assert listing(alone) == sorted(PTB)
    assert listing(tmp_path / "empty") == []


@pytest.mark.parametrize("deeds", [["hang up"], ["fail", "hang up"], ["truncate", "fail", "stall"]])
def test_a_passing_failure_is_tried_again(network, alone, deeds, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.1))
    network.deeds[TRAIN] = list(deeds)
    assert len(ptb.words().train) == 8
    assert [name for name, _ in network.asked].count(TRAIN) == len(deeds) + 1
    assert listing(alone) == sorted(PTB)


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_download_goes_on_where_it_stopped_if_the_server_can(network, tmp_path, resumes):
    content = random.Random(0).randbytes(400_000)
    network.files["large"], network.deeds["large"] = content, ["truncate"]
    network.resumes = resumes
    download.fetch(ptb.BASE + "large", sha256(content), tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == content
    (_, first), (_, second) = network.asked
    assert first is None
    assert 100_000 < int(second[len("bytes=") : -1]) <= 200_000


@pytest.mark.parametrize(
    ("deed", "said"),
    [("hang up", "Connection"), ("fail", "503"), ("truncate", ""), ("stall", "timed out")],
)
def test_a_lasting_failure_is_an_error_with_a_remedy(network, alone, deed, said, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.1))
    network.resumes = False
    network.deeds[TRAIN] = [deed] * 9
    before = time.monotonic()
    with pytest.raises(CorpusMissing, match=f"could not be downloaded from http.*{said}") as caught:
        ptb.words()
    assert f"save it as {alone / TRAIN}" in str(caught.value)
    assert listing(alone) == []
    assert len(network.asked) == 4
    assert time.monotonic() - before < 5


@pytest.mark.parametrize("content", [None, b"<html>Please log in</html>", b""])
def test_a_corrupted_download_is_refused_and_not_kept(network, alone, content):
    name = "ptb.valid.txt"
    if content is None:
        network.deeds[name] = ["corrupt"]
    else:
        network.files[name] = content
    with pytest.raises(CorpusMissing) as caught:
        ptb.words()
    said = str(caught.value)
    assert ptb.BASE + name in said
    assert "hash" in said.lower()
    assert f"save it as {alone / name}" in said
    assert listing(alone) == [TRAIN]
    network.files[name] = PTB[name].encode()
    assert len(ptb.words().valid) == 3


def test_an_absent_page_is_not_asked_for_again(network, alone):
    del network.files["ptb.test.txt"]
    with pytest.raises(CorpusMissing, match=r"ptb\.test\.txt could not be downloaded .*404"):
        ptb.words()
    assert not (alone / "ptb.test.txt").exists()
    assert [name for name, _ in network.asked].count("ptb.test.txt") == 1


def test_no_network_is_an_error_with_a_remedy(alone):
    with pytest.raises(CorpusMissing, match="could not be downloaded from http.*save it as"):
        ptb.words()
    assert not alone.exists() or not listing(alone)


def test_without_pooch_the_remedy_is_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(CorpusMissing, match="pip install 'recdrop\\[study\\]'"):
        ptb.words()


def test_a_cache_that_cannot_be_written_is_an_error_with_a_remedy(network, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CorpusMissing, match=r"cannot be written .*XDG_CACHE_HOME.*RECDROP_DATA"):
        ptb.words()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_cache_is_an_error_with_a_remedy(network, alone):
    alone.mkdir(parents=True)
    alone.chmod(0o500)
    with pytest.raises(CorpusMissing, match="cannot be written .*XDG_CACHE_HOME"):
        ptb.words()


def test_an_interrupted_download_leaves_nothing(network, alone, monkeypatch):
    def interrupted(url, file, bar):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(download, "_rest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ptb.words()
    assert listing(alone) == []
    assert len(ptb.words().train) == 8


def test_a_killed_download_leaves_no_half_file_under_its_name(network, alone):
    network.deeds[TRAIN] = ["stall"]
    code = f"""
from pathlib import Path
from recdrop.data.download import fetch
fetch({ptb.BASE + TRAIN!r}, {ptb.FILES[TRAIN]!r}, Path({str(alone / TRAIN)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not network.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(listing(alone)) == 1  # half a file, under a name of its own
    assert not (alone / TRAIN).exists()
    assert len(ptb.words().train) == 8


def test_downloads_at_the_same_time_do_not_disturb_each_other(network, alone):
    with ThreadPoolExecutor(8) as pool:
        corpora = list(pool.map(lambda _: ptb.words(), range(8)))
    assert all(torch.equal(c.train, corpora[0].train) for c in corpora)
    assert listing(alone) == sorted(PTB)
