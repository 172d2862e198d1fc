"""Test items: what each sentence, window or sequence of the test text adds to a figure.

Where a network has one seed they are all that an interval can be drawn from. Each item is a row of
sums that add up over the test; they are kept beside a manifest, but those of Temporal Order, which
its accuracy tells:

    Temporal Order   a sequence:         right, 1
    language models  a stream's window:  cross-entropy in nats, tokens
    named entities   a sentence:         entities found rightly, found, there
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from recdrop.study.conditions import Condition
from recdrop.study.files import atomic, from_root
from recdrop.study.results import BEYOND, ITEMS, arrays

RESAMPLES = 2000

FIGURES = {
    "temporal_order": lambda right, count: 100 * right / count,
    "word_lm": lambda nats, tokens: np.exp(nats / tokens),
    "char_lm": lambda nats, tokens: nats / tokens / np.log(2),
    "ner": lambda right, found, there: 200 * right / np.maximum(found + there, 1),
}
"""By task, its figure from sums over items: accuracy in %, perplexity, bits, F1 in %."""


def save(folder: Path, condition: Condition, items: np.ndarray) -> None:
    """Keep (items, sums) beside the condition's manifest."""
    with atomic(folder / f"{condition.name}{ITEMS}") as part, open(part, "wb") as file:
        np.savez_compressed(file, items=items.astype(np.float32))


def find(results_dir: str | os.PathLike, name: str) -> Path | None:
    """The file of a network's items, or None where they were not kept."""
    folder = from_root(results_dir)
    paths = (place / f"{name}{ITEMS}" for place in (folder, folder / BEYOND))
    return next((path for path in paths if path.exists()), None)


def load(path: str | os.PathLike) -> np.ndarray:
    """(items, sums) float64.

    Raises:
        ValueError: the file is damaged; it is named.
    """
    path = from_root(path)
    try:
        found = arrays(path)["items"].astype(np.float64)
        if found.ndim != 2 or not np.isfinite(found).all():
            raise ValueError(f"shape {found.shape}, or values that are no numbers")
        return found
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path} does not hold test items ({error}); move it away, and intervals over them "
            "are left out"
        ) from error


def of_accuracy(accuracy: float, count: int) -> np.ndarray:
    """Those of Temporal Order, from a fraction of sequences.

    >>> of_accuracy(0.75, 4)
    array([[1., 1.],
           [1., 1.],
           [1., 1.],
           [0., 1.]])
    """
    right = np.arange(count) < round(accuracy * count)
    return np.stack([right, np.ones(count)], 1)


def figure(task: str, items: np.ndarray) -> float:
    """The test figure of (items, sums).

    >>> round(figure("ner", np.array([[1, 2, 1], [1, 1, 2]])), 1)  # 2 of 3 found, 2 of 3 there
    66.7
    """
    return float(FIGURES[task](*items.sum(0)))


def resampled(task: str, items: np.ndarray) -> np.ndarray:
    """(RESAMPLES,) test figures of items drawn with replacement, as many as there are.

    Two networks with as many items are given the same draws, so that differences are paired.
    """
    return FIGURES[task](*(_draws(len(items)) @ items.astype(np.float32)).T.astype(np.float64))


@lru_cache(maxsize=2)
def _draws(count: int) -> np.ndarray:
    """(RESAMPLES, count): how often each item is drawn."""
    random = np.random.default_rng(0)
    drawn = (random.integers(count, size=count) for _ in range(RESAMPLES))
    return np.stack([np.bincount(d, minlength=count).astype(np.float32) for d in drawn])
