"""Static vectors of words (Mikolov et al., 2013): read from a file, downloaded, or trained here."""

import contextlib
import gzip
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recdrop.data.download import CorpusDamaged, Source, cache, locate, sha256

GOOGLE_NEWS = "word2vec-google-news-300"
FILES = {f"{GOOGLE_NEWS}.gz": "md5:a5e5354d40acb95f9ec66d5977d140ef"}
BASE = f"https://github.com/RaRe-Technologies/gensim-data/releases/download/{GOOGLE_NEWS}/"
LICENCE = (
    "These are 1.7 GB, and 4 GB of memory once they are read; gensim-data names no licence "
    "for the GoogleNews vectors."
)
COUNTS = {"vectors": (3_000_000,), "size": (300,)}

SKIP_GRAM = dict(sg=1, window=3, negative=5, sample=1e-3, min_count=1, epochs=20, lower=True)
"""How vectors are trained here. The text is small: every word counts, lower-case forms are one.

Of the windows 2, 3 and 5, the one of 3 words let a linear model find most entities of CoNLL-2003's
validation text (token F1 0.74, 0.75, 0.74); 40 epochs took twice as long for 0.003 more.
"""


@dataclass(frozen=True, eq=False)
class Vectors:
    """A vector for each of some words.

    Attributes:
        name: what they are and what they were trained on.
        own: whether they were trained here.
        words: in the order of the rows.
        matrix: (words, size) float32.
    """

    name: str
    own: bool
    words: Sequence[str] = field(repr=False)
    matrix: np.ndarray = field(repr=False)

    @property
    def size(self) -> int:
        """Numbers per word."""
        return self.matrix.shape[1]

    @cached_property
    def sha256(self) -> str:
        """Of words and numbers, whatever the format of the file they came from."""
        digest = hashlib.sha256("\n".join(self.words).encode())
        digest.update(np.ascontiguousarray(self.matrix))
        return digest.hexdigest()

    def lookup(self, words: Sequence[str]) -> Tensor:
        """(N, size) float32: of the exact word, else of its lower-case form, else zeros."""
        found = np.zeros((len(words), self.size), np.float32)
        for i, word in enumerate(words):
            if (row := self._row(word)) is not None:
                found[i] = self.matrix[row]
        return torch.from_numpy(found)

    def coverage(self, words: Sequence[str]) -> float:
        """Share of ``words`` that have a vector; 0 of none."""
        return sum(self._row(word) is not None for word in words) / max(1, len(words))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}

    def _row(self, word: str) -> int | None:
        return self._index.get(word, self._index.get(word.lower()))


def load(path: str | os.PathLike) -> Vectors:
    """Vectors of a file in one of gensim's formats, told by the end of its name.

    These are .kv (gensim's own; a pickle, so open none that you do not trust), .bin and .bin.gz
    (word2vec's binary format; also the file that ``recdrop data fetch word2vec`` brings), .txt and
    .vec (its text format, also with .gz).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the format is none of these, or the file is not in it.
        ImportError: gensim is not installed.
    """
    path = Path(path).expanduser()
    formats = {".kv": None, ".bin": True, ".txt": False, ".vec": False}
    suffix = ".bin" if path.name in FILES else Path(path.name.removesuffix(".gz")).suffix
    if suffix not in formats:
        raise ValueError(f"{path}: not a file of vectors by its name, which ends with none of "
                         f"{', '.join(formats)}, .bin.gz, .txt.gz, .vec.gz")  # fmt: skip
    if not path.is_file():
        raise FileNotFoundError(f"no file of word vectors {path}")
    return _read(path, binary=formats[suffix], name=path.name)


def label(path: str | os.PathLike) -> str:
    """A file's name and, where it is there, ten digits of its SHA-256: two of one name differ."""
    path = Path(path).expanduser()
    return f"{path.name} {sha256(path)[:10]}" if path.is_file() else path.name


def google_news(data_dir: str | os.PathLike | None = None, download: bool = True) -> Vectors:
    """The paper's vectors: 300 numbers for 3 million words and phrases of Google News.

    Raises:
        CorpusMissing, CorpusDamaged: see :func:`recdrop.data.download.locate`.
        ImportError: gensim is not installed.
    """
    _gensim()  # before 1.7 GB are fetched
    (path,) = locate(source(), data_dir, download).values()
    return _read(path, binary=True, name="GoogleNews")


def source() -> Source:
    return Source("word2vec", (FILES,), {name: BASE + name for name in FILES}, LICENCE)


def count(paths: dict[str, Path]) -> dict[str, tuple[int, ...]]:
    """What COUNTS has, of a file in word2vec's binary format: its first line says."""
    (path,) = paths.values()
    with gzip.open(path) as file:
        vectors, size = map(int, file.readline().split())
    return {"vectors": (vectors,), "size": (size,)}


def train(
    sentences: Iterable[Sequence[str]],
    size: int = 300,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
) -> Vectors:
    """Skip-gram vectors of a text, trained by gensim, or read where the same were trained before.

    They are those of lower-case forms, and on one machine depend on text, size and seed alone.
    gensim is needed to train them but not to read them again. Settings: SKIP_GRAM.

    Args:
        sentences: the words of each sentence.
        size: numbers per word.
        seed: of their first values and of the words drawn against.
        cache_dir: folder to keep them in; the per-user cache where None.

    Raises:
        ValueError: there are no words, ``size`` is not positive, a sentence is a string, or a word
            holds a line feed or what UTF-8 does not encode.
        CorpusDamaged: the file that keeps them is not whole.
        ImportError: gensim is not installed.
    """
    sentences = list(sentences)
    if strings := [s for s in sentences if isinstance(s, str)]:
        raise ValueError(f"sentence {strings[0]!r} is a string; give a list of its words")
    text = [[word.lower() for word in sentence] for sentence in sentences]
    count = sum(map(len, text))
    if not count or size < 1:
        raise ValueError(f"{count} words and size={size}: both must be positive to train vectors")
    for word in {word for sentence in text for word in sentence}:
        if "\n" in word or word != word.encode(errors="replace").decode():
            raise ValueError(f"{word!r} is no word that can be kept: take line feeds out of words, "
                             "and what UTF-8 does not encode")  # fmt: skip
    settings = {**SKIP_GRAM, "size": size, "seed": seed}
    digest = hashlib.sha256(json.dumps([settings, text]).encode()).hexdigest()
    folder = Path(cache_dir).expanduser() if cache_dir else cache() / "word2vec"
    path = folder / f"skip-gram-{digest[:16]}.npz"
    name = f"skip-gram, trained here on {count:,} words"
    if path.exists():
        return Vectors(name, True, *_unpack(path))
    keyed = _skip_gram(text, size, seed)
    _keep(path, keyed.index_to_key, keyed.vectors)
    return Vectors(name, True, keyed.index_to_key, keyed.vectors)


def _skip_gram(text: list[list[str]], size: int, seed: int):
    # One worker: with more, the order in which they finish would change the numbers.
    return _gensim().Word2Vec(
        text, vector_size=size, seed=seed, workers=1,
        **{key: value for key, value in SKIP_GRAM.items() if key != "lower"},
    ).wv  # fmt: skip


def _gensim():
    try:
        import gensim.models
    except ImportError as error:
        raise ImportError("word vectors take gensim: pip install 'recdrop[study]'") from error
    return gensim.models


def _read(path: Path, binary: bool | None, name: str) -> Vectors:
    """``binary`` None stands for gensim's own format."""
    keyed_vectors = _gensim().KeyedVectors
    try:
        if binary is None:
            keyed = keyed_vectors.load(str(path))
        else:
            keyed = keyed_vectors.load_word2vec_format(str(path), binary=binary)
        words, matrix = keyed.index_to_key, np.asarray(keyed.vectors, np.float32)
    except Exception as error:  # a pickle of something else can raise anything
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path} holds no word vectors in the format of its name: {reason}"
        ) from error
    if not np.isfinite(matrix).all():
        raise ValueError(f"{path} holds numbers that are not finite; take them out of the file")
    return Vectors(f"{name}, {len(words):,} words", False, words, matrix)


def _keep(path: Path, words: Sequence[str], matrix: np.ndarray) -> None:
    """Write a file that is whole or not there. Where it cannot be written, say so and go on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            try:
                np.savez(
                    file, words=np.frombuffer("\n".join(words).encode(), np.uint8), matrix=matrix
                )
                file.close()
                os.replace(file.name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        warnings.warn(f"word vectors cannot be kept as {path}: {error}", stacklevel=3)


def _unpack(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as held:
            words, matrix = held["words"].tobytes().decode().split("\n"), held["matrix"]
        if len(words) != len(matrix):
            raise ValueError(f"{len(words)} words and {len(matrix)} vectors")
        return words, matrix
    except MemoryError:
        raise
    except Exception as error:  # of a file whose bits say that it is encrypted, for instance
        raise CorpusDamaged(f"{path} is damaged ({error}); take it away to train anew") from error
