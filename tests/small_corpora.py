"""Corpora of a few words in the formats of the real ones, for a machine with nothing else."""

import hashlib
import zipfile
from pathlib import Path

from recdrop.data import conll2003, ptb, word2vec

PTB = {
    "ptb.train.txt": " the cat <unk> \n the dog sat \n",
    "ptb.valid.txt": " the dog \n",
    "ptb.test.txt": " sat the cat",
}
IOB1 = {
    "eng.train": """-DOCSTART- -X- O O

Anna NNP I-NP I-PER
Ward NNP I-NP I-PER
sat VBD I-VP O

Oslo NNP I-NP I-LOC
Lima NNP I-NP B-LOC

""",
    "eng.testa": "-DOCSTART- -X- O O\n\nthe DT I-NP O\nFalk NNP I-NP I-ORG\n",
    "eng.testb": "Oslo NNP I-NP I-LOC\n\n",
}
BIO = {
    "train.txt": """-DOCSTART- -X- -X- O

Anna NNP B-NP B-PER
Ward NNP I-NP I-PER
sat VBD B-VP O

Oslo NNP B-NP B-LOC
Lima NNP I-NP B-LOC

""",
    "valid.txt": "-DOCSTART- -X- -X- O\n\nthe DT B-NP O\nFalk NNP I-NP B-ORG\n",
    "test.txt": "Oslo NNP B-NP B-LOC\n\n",
}


def sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def put(folder: Path, texts: dict[str, str]) -> Path:
    """Write the texts into the folder, and give it back."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def archive(path: Path, texts: dict[str, str] = BIO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, text in texts.items():
            file.writestr(zipfile.ZipInfo(name), text)  # the same bytes at any time of day
    return path


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def take_the_place_of_the_real_ones(monkeypatch, tmp_path: Path) -> Path:
    """No corpus, no network and an empty cache; the texts above are the corpora.

    Returns:
        The cache.
    """
    monkeypatch.delenv("RECDROP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    zipped = archive(tmp_path / "zipped" / "conll2003.zip").read_bytes()
    monkeypatch.setattr(ptb, "FILES", {name: sha256(text) for name, text in PTB.items()})
    monkeypatch.setattr(conll2003, "ORIGINAL", {k: sha256(text) for k, text in IOB1.items()})
    monkeypatch.setattr(conll2003, "ARCHIVE", {"conll2003.zip": sha256(zipped)})
    monkeypatch.setattr(conll2003, "COUNTS", {"sentences": (2, 1, 1), "tokens": (5, 2, 1)})
    nobody = "http://127.0.0.1:9/"  # where nobody listens
    for module in (ptb, conll2003, word2vec):
        monkeypatch.setattr(module, "BASE", nobody)
    return tmp_path / "cache" / "recdrop"
