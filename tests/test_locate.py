"""Where corpora are looked for, and what is said where files are missing or damaged."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import PTB, put, sha256, take_the_place_of_the_real_ones

from recdrop.data import download, ptb
from recdrop.data.download import CorpusDamaged, CorpusMissing, locate, verify

TRAIN = "ptb.train.txt"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path) -> Path:
    """The corpus' folder in an empty cache."""
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


def test_without_a_home_a_folder_is_asked_for(tmp_path, monkeypatch, no_network):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "RECDROP_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(CorpusMissing, match="name a folder in XDG_CACHE_HOME"):
        ptb.words()
    put(tmp_path / "mine", PTB)
    assert len(ptb.words(tmp_path / "mine").train)  # where it is at hand no cache is needed


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
