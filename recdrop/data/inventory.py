"""Which corpora are here, where they lie, and whether they are what they should be."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from recdrop.data import conll2003, ptb, word2vec
from recdrop.data.download import CorpusDamaged, CorpusMissing, Place, find, locate, verified

CORPORA = {"ptb": ptb, "conll2003": conll2003, "word2vec": word2vec}
"""Modules with ``source()``, and ``COUNTS`` that ``count(paths)`` must find in its files."""
LARGE = ("word2vec",)
"""Fetched only when named."""


@dataclass(frozen=True)
class Finding:
    """What is known of one corpus.

    Attributes:
        corpus: its name.
        state: "found", "absent", "incomplete", "damaged" or "failed", a download.
        text: the particulars, over one or more lines.
    """

    corpus: str
    state: str
    text: str

    @property
    def wrong(self) -> bool:
        """Whether a corpus is there but cannot be used, or was asked for and did not come."""
        return self.state in ("incomplete", "damaged", "failed")

    def __str__(self) -> str:
        return f"{self.corpus:<10} {self.state:<10} {self.text}"


def status(data_dir: str | os.PathLike | None = None) -> Iterator[Finding]:
    """Where each corpus lies. Nothing is read, and nothing downloaded.

    Raises:
        CorpusMissing: ``data_dir`` or RECDROP_DATA names a folder that does not exist.
    """
    for name, module in CORPORA.items():
        place = find(module.source(), data_dir)
        yield _absence(name, place) or Finding(name, "found", f"{place.origin}: {place.folder}")


def verify(data_dir: str | os.PathLike | None = None) -> Iterator[Finding]:
    """Hashes and counts of each corpus that is here, beside those expected. Nothing is downloaded.

    Raises:
        CorpusMissing: ``data_dir`` or RECDROP_DATA names a folder that does not exist.
    """
    for name, module in CORPORA.items():
        place = find(module.source(), data_dir)
        yield _absence(name, place) or _verified(name, place)


def fetch(
    names: Iterable[str] = (), data_dir: str | os.PathLike | None = None
) -> Iterator[Finding]:
    """Download what is not here yet; all but the large ones where none is named.

    Raises:
        ValueError: there is no corpus of such a name.
        CorpusMissing: ``data_dir`` or RECDROP_DATA names a folder that does not exist.
    """
    names = list(names) or [name for name in CORPORA if name not in LARGE]
    if unknown := [name for name in names if name not in CORPORA]:
        raise ValueError(f"no corpus {unknown[0]!r}; there are {', '.join(CORPORA)}")
    for name in names:
        source = CORPORA[name].source()
        find(source, data_dir)  # so that a mistyped folder is raised, unlike a failed download
        try:
            paths = locate(source, data_dir)
        except (CorpusMissing, CorpusDamaged) as error:
            state = "damaged" if isinstance(error, CorpusDamaged) else "failed"
            yield Finding(name, state, str(error))
        else:
            yield Finding(name, "found", ", ".join(map(str, paths.values())))


def _absence(name: str, place: Place) -> Finding | None:
    if not place.absent:
        return None
    if len(place.absent) < len(place.files):
        missing = ", ".join(place.absent)
        return Finding(name, "incomplete", f"{place.origin}: no {missing} in {place.folder}")
    editions = " or ".join(", ".join(files) for files in CORPORA[name].source().editions)
    return Finding(
        name, "absent",
        f"recdrop data fetch {name}, or put {editions} into a folder {name} in the one that "
        "RECDROP_DATA names",
    )  # fmt: skip


def _verified(name: str, place: Place) -> Finding:
    module = CORPORA[name]
    lines = [f"{place.origin}: {place.folder}"]
    try:
        counts = module.count(verified(place))
    except (ValueError, OSError) as error:  # its hash, a line of it, or nobody may read it
        return Finding(name, "damaged", str(error))
    for what, expected in module.COUNTS.items():
        lines.append(f"    {what:<12} {_numbers(counts[what])}, expected {_numbers(expected)}")
    right = counts == module.COUNTS
    return Finding(name, "found" if right else "damaged", "\n".join(lines))


def _numbers(numbers: tuple[int, ...]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)
