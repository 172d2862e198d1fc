"""Files from elsewhere: old, damaged or hostile ones are read or refused, and never executed."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdrop.batch.folder import Folder
from recdrop.data import conll2003, ptb
from recdrop.study import results
from recdrop.study.conditions import Condition

SAMPLE = Path(__file__).parent / "samples" / "schema-1.json"
"""A manifest as the first version wrote it; it stays as it is."""
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=6,
)


def at_home(folder: Path, manifest: dict) -> Path:
    path = folder / f"{Condition(**manifest['condition']).name}.json"
    path.write_text(json.dumps(manifest))
    return path


def test_a_manifest_of_schema_1_is_still_read(tmp_path):
    manifest = json.loads(SAMPLE.read_text())
    assert manifest["schema"] == 1
    at_home(tmp_path, manifest)
    (found,) = results.read_all(tmp_path)
    assert found == manifest
    assert results.read(tmp_path, Condition(**manifest["condition"])) == manifest


@given(st.data())
def test_any_change_of_a_manifest_is_read_or_refused_by_its_path(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("manifests")
    manifest = json.loads(SAMPLE.read_text())
    path = at_home(folder, manifest)
    where = data.draw(st.sampled_from([manifest, manifest["condition"]]))
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(JSON)
    path.write_text(json.dumps(manifest))
    read_or_refused(folder, path)


@given(st.one_of(JSON.map(json.dumps), st.text()).map(str.encode) | st.binary())
def test_any_bytes_are_no_manifest(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("manifests")
    path = at_home(folder, json.loads(SAMPLE.read_text()))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name} is not a result.*move it away"):
        results.read_all(folder)


@given(st.integers(0, 10**4))
def test_half_a_manifest_is_refused_by_its_path(tmp_path_factory, size):
    folder = tmp_path_factory.mktemp("manifests")
    text = SAMPLE.read_text().rstrip()
    path = at_home(folder, json.loads(text))
    path.write_text(text[: size % len(text)])
    with pytest.raises(ValueError, match=f"{path.name} is not a result.*move it away"):
        results.read_all(folder)


@pytest.mark.parametrize(
    "content", ["[" * 20000, '{"schema": ' + "9" * 5000 + "}", '{"a":' * 9999, "\x00", "NaN"]
)
def test_a_file_that_overtaxes_a_parser_is_refused(content, tmp_path):
    path = at_home(tmp_path, json.loads(SAMPLE.read_text()))
    path.write_text(content)
    with pytest.raises(ValueError, match="is not a result of this version"):
        results.read_all(tmp_path)


def read_or_refused(folder: Path, path: Path) -> None:
    try:
        results.read_all(folder)
    except ValueError as error:
        said = str(error)
    else:
        return
    assert f"{path} is not a result of this version" in said
    assert "move it away" in said


class Hostile:
    """What unpickling would do."""

    def __reduce__(self):
        return Path.mkdir, (Path("executed"),)


def test_weights_cannot_execute_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = json.loads(SAMPLE.read_text())
    condition = Condition(**manifest["condition"])
    with open(tmp_path / f"{condition.name}.npz", "wb") as file:
        np.savez(file, a=np.array([Hostile()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        results.load_weights(tmp_path, condition)
    (tmp_path / f"{condition.name}.npz").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="pickle"):
        results.load_weights(tmp_path, condition)
    assert not (tmp_path / "executed").exists()


@given(JSON)
def test_any_notebook_in_a_sweeps_folder_is_an_outcome_or_none(tmp_path_factory, content):
    folder = Folder(tmp_path_factory.mktemp("sweep")).create()
    for nb in (content, {"metadata": content}, {"metadata": {"recdrop": content}}):
        folder.notebook("a").write_text(json.dumps(nb))
        assert folder.outcome("a") is None


# corpora


BYTES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    st.lists(st.sampled_from(["EU NNP I-NP I-ORG", "", "a b c", "-DOCSTART-", "x y z B-", "\t"]))
    .map("\n".join)
    .map(str.encode),
)


@given(BYTES)
def test_any_bytes_are_a_text_of_words_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("corpus") / "ptb.train.txt"
    path.write_bytes(content)
    try:
        words, characters = ptb.read_words(path), ptb.read_characters(path)
    except ValueError as error:  # a corpus's hash is compared before it is read
        said = str(error)
    else:
        assert all(word == word.strip() and word for word in words)
        assert not characters or characters.endswith("\n")
        return
    assert f"{path} is not text in UTF-8" in said


@given(BYTES)
def test_any_bytes_are_sentences_or_refused_by_file_and_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("corpus") / "eng.train"
    path.write_bytes(content)
    try:
        sentences = conll2003.read(path)
    except ValueError as error:
        said = str(error)
    else:
        assert all(len(s.words) == len(s.tags) > 0 for s in sentences)
        return
    assert f"{path}, line " in said or f"{path} is not text in UTF-8" in said
