"""The English entities of CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003): persons, places, ...

The text is Reuters' copyright; this package does not contain it. Two editions are about: the
original files, whose tags follow the IOB1 scheme, and an archive of the same text in BIO.
"""

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

from recdrop.data.corpus import Sentence, TaggedCorpus, tagged
from recdrop.data.download import CorpusDamaged, Source, locate, sha256
from recdrop.data.text import read_text

ARCHIVE = {"conll2003.zip": "96a104d174ddae7558bab603f19382c5fe02ff1da5c077a7f3ce2ced1578a2c3"}
ORIGINAL = {
    "eng.train": "eac0822f501353f265383ddf1edb0dcd42a1b6eefd3e383d7074db98c38eb41c",
    "eng.testa": "aedc4ccbd1ae9795feaa0e86fe72d195b0258abed9d705b630d1c889276fac1e",
    "eng.testb": "0632f32c090ef31c223135b7fee3187a7cf8e65c4015c7866bb7783428cdd9a6",
}
UNPACKED = dict.fromkeys(("train.txt", "valid.txt", "test.txt"), "")
"""The archive's content: no hashes are published, so its sentences and tokens are counted."""
BASE = "https://data.deepai.org/"
LICENCE = "The text is Reuters' copyright (RCV1), for research only."
COUNTS = {"sentences": (14_041, 3_250, 3_453), "tokens": (203_621, 51_362, 46_435)}
"""In train, valid and test."""


def source() -> Source:
    return Source(
        "conll2003", (ARCHIVE, ORIGINAL, UNPACKED), {name: BASE + name for name in ARCHIVE}, LICENCE
    )


def sentences(data_dir: str | os.PathLike | None = None, download: bool = True) -> TaggedCorpus:
    """Sentences with BIO tags: 14,041 / 3,250 / 3,453 of 203,621 / 51,362 / 46,435 words.

    A folder may hold eng.train, eng.testa and eng.testb, the archive conll2003.zip, or its
    content train.txt, valid.txt and test.txt.

    Raises:
        CorpusMissing, CorpusDamaged: see :func:`recdrop.data.download.locate`.
        ValueError: a line or a tag is malformed; says which one.
    """
    paths = locate(source(), data_dir, download)
    if "train.txt" in paths and (found := count(paths)) != COUNTS:
        raise CorpusDamaged(
            f"{paths['train.txt'].parent}: {', '.join(UNPACKED)} hold {found}, expected {COUNTS}: "
            "they are damaged or another text"
        )
    return tagged("CoNLL-2003", _splits(paths), {k: sha256(path) for k, path in paths.items()})


def count(paths: dict[str, Path]) -> dict[str, tuple[int, ...]]:
    """What COUNTS has, of files in this format."""
    splits = _splits(paths).values()
    return {
        "sentences": tuple(len(split) for split in splits),
        "tokens": tuple(sum(len(s.words) for s in split) for split in splits),
    }


def read(path: str | os.PathLike) -> tuple[Sentence, ...]:
    """The sentences of a file in this format, whatever its text.

    Raises:
        ValueError: a line or a tag is malformed, or the file is not in UTF-8.
    """
    return parse(read_text(path).split("\n"), str(path))


def parse(lines: Iterable[str], name: str = "text") -> tuple[Sentence, ...]:
    """Sentences of lines "word POS chunk tag", divided by empty ones; -DOCSTART- is left out.

    Tags may follow IOB1 or BIO; they are given as BIO.

    >>> parse(["EU NNP I-NP I-ORG", "rejects VBZ I-VP O", "", "Peter NNP I-NP I-PER"])[0]
    Sentence(words=('EU', 'rejects'), tags=('B-ORG', 'O'))

    Raises:
        ValueError: a line or a tag is malformed; names file and line.
    """
    found: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate((*lines, ""), start=1):
        columns = line.split()
        if not columns or columns[0] == "-DOCSTART-":
            if words:
                found.append(Sentence(tuple(words), iob1_to_bio(tags)))
                words, tags = [], []
            continue
        where = f"{name}, line {number}"
        if len(columns) != 4:
            raise ValueError(f"{where}: {line!r} has {len(columns)} columns, expected 4")
        try:
            _split(columns[3])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        words.append(columns[0])
        tags.append(columns[3])
    return tuple(found)


def iob1_to_bio(tags: Iterable[str]) -> tuple[str, ...]:
    """Begin every entity with B-. IOB1 does so only right behind another of the same type.

    Tags that follow BIO already stay as they are, so that this reads either scheme, and the two
    tags of the original files that break their own.

    >>> iob1_to_bio(["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-LOC", "I-ORG"])
    ('B-PER', 'I-PER', 'O', 'B-LOC', 'B-LOC', 'I-LOC', 'B-ORG')

    Raises:
        ValueError: a tag is neither O nor B- or I- and a type.
    """
    bio = []
    before = None
    for tag in tags:
        position, kind = _split(tag)
        bio.append(f"B-{kind}" if position == "I" and kind != before else tag)
        before = kind
    return tuple(bio)


def _split(tag: str) -> tuple[str, str | None]:
    position, _, kind = tag.partition("-")
    if tag == "O":
        return "O", None
    if position not in ("B", "I") or not kind:
        raise ValueError(f"tag {tag!r} is neither O nor B- or I- and a type, such as I-PER")
    return position, kind


def _splits(paths: dict[str, Path]) -> dict[str, tuple[Sentence, ...]]:
    """The sentences of an edition: three files, or the archive of them."""
    if "conll2003.zip" not in paths:
        found = [read(path) for path in paths.values()]
    else:  # read without unpacking, so that no half-unpacked folder can be left
        path = paths["conll2003.zip"]
        with zipfile.ZipFile(path) as archive:
            texts = {name: archive.read(name).decode("utf-8") for name in UNPACKED}
        found = [parse(text.split("\n"), f"{path}/{name}") for name, text in texts.items()]
    return dict(zip(("train", "valid", "test"), found, strict=True))
