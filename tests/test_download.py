"""Downloads: verified, retried, resumed, whole or not there; and what is said where they fail.

A web server here plays the network; it can truncate, stall, corrupt, refuse and hang up.
"""

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
from small_corpora import PTB, listing, put, sha256, take_the_place_of_the_real_ones

from recdrop.data import download, ptb
from recdrop.data.download import CorpusMissing

TRAIN = "ptb.train.txt"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path) -> Path:
    """The corpus' folder in an empty cache."""
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))
    return take_the_place_of_the_real_ones(monkeypatch, tmp_path) / "ptb"


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
        if content is None or deed in (["fail"], ["busy"]):
            passing = 503 if deed == ["fail"] else 429
            return self.send_error(404 if content is None else passing)
        if deed == ["leave open"]:  # all of it, but that this was all is not said
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            return self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        if asked and server.resumes and int(asked[len("bytes=") : -1]) >= len(content):
            return self.send_error(416)
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


@pytest.mark.parametrize(
    "deeds",
    [["hang up"], ["fail", "hang up"], ["truncate", "fail", "stall"], ["busy"], ["leave open"]],
)
def test_a_passing_failure_is_tried_again(network, alone, deeds, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.4))
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
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.4))
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
