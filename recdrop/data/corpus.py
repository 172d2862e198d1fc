"""A text corpus as numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

EOS = "<eos>"


@dataclass(frozen=True)
class Corpus:
    """Three splits of a text as indices into one vocabulary.

    Attributes:
        name: where it comes from; a generated corpus says so here.
        vocabulary: symbols by index.
        train, valid, test: (N,) int64.
        sha256: of each file read, by its name; empty for a generated corpus.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor
    sha256: dict[str, str]

    @property
    def eos(self) -> int:
        return self.vocabulary.index(EOS)

    def part(self, train: int | None, held_out: int | None = None) -> "Corpus":
        """The first ``train`` tokens, and ``held_out`` of valid and test; all where None."""
        return Corpus(
            self.name, self.vocabulary,
            self.train[:train], self.valid[:held_out], self.test[:held_out], self.sha256,
        )  # fmt: skip


def encode(
    name: str, splits: dict[str, Iterable[str]], sha256: dict[str, str] | None = None
) -> Corpus:
    """Number the symbols of ``splits`` = train, valid, test by falling frequency in train.

    Raises:
        ValueError: a symbol of valid or test does not occur in train.
    """
    splits = {split: list(symbols) for split, symbols in splits.items()}
    counts: dict[str, int] = {}
    for symbol in splits["train"]:
        counts[symbol] = counts.get(symbol, 0) + 1
    vocabulary = sorted(counts, key=lambda s: (-counts[s], s))
    index = {symbol: i for i, symbol in enumerate(vocabulary)}
    tensors = {}
    for split, symbols in splits.items():
        try:
            tensors[split] = torch.tensor([index[s] for s in symbols], dtype=torch.int64)
        except KeyError as error:
            raise ValueError(f"{name}: {error} of {split} does not occur in train") from None
    return Corpus(name, tuple(vocabulary), **tensors, sha256=sha256 or {})
