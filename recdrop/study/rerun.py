"""A result made again from its manifest alone: are its figures the same?"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from recdrop.data.word2vec import label
from recdrop.study import results
from recdrop.study.conditions import Condition
from recdrop.study.files import from_root, writable
from recdrop.study.training import train
from recdrop.tasks.char_lm import CharacterLanguageModel
from recdrop.tasks.ner import NamedEntities
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel

BACKEND = ("torch", "device", "machine", "processor", "backend", "threads")
"""What ``made_with`` says of the backend: where it differs, the last bits may."""


@dataclass(frozen=True)
class Rerun:
    """A manifest, the one made again, and what differs between them, in words."""

    manifest: dict
    again: dict
    differences: tuple[str, ...]

    def __str__(self) -> str:
        epochs = len(self.manifest["curve"])
        if not self.differences:
            return f"same figures: {self.manifest['name']}, {epochs} epochs, to the last digit kept"
        first, second = self.manifest["made_with"], self.again["made_with"]
        known = [k for k in BACKEND if k in first]  # older manifests do not tell them all
        other = [f"{k} {first[k]} then, {second[k]} now" for k in known if first[k] != second[k]]
        why = f"made on another backend: {'; '.join(other)}" if other else "on the same backend"
        if not other and (untold := [k for k in BACKEND if k not in first]):
            why += f", as far as is known: its {' and '.join(untold)} was not noted then"
        lines = [f"other figures: {self.manifest['name']}, {why}", *self.differences]
        return "\n  ".join(lines)


def rerun(
    path: str | os.PathLike,
    results_dir: str | os.PathLike = "runs/rerun",
    data_dir: str | os.PathLike | None = None,
    vectors: str | os.PathLike | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Rerun:
    """Train a manifest's network again, from its own settings whatever the profiles are today.

    On the CPU a network's figures do not depend on those that it was trained beside; it is trained
    alone, with as many threads as then. An interrupted rerun goes on where it stopped.

    Args:
        path: the manifest.
        results_dir: where the new one goes; one that is there is set aside.
        data_dir: folder of the corpora.
        vectors: the file of word vectors that the manifest names, if it does.
        device: "cpu" or "cuda"; what the manifest was made on where None.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: it is damaged, or does not name its data, or lies in ``results_dir``, or
            ``vectors`` are not its own, or it is to be trained on a GPU and there is none.
    """
    path = from_root(path)
    if not path.exists():
        raise FileNotFoundError(f"no manifest at {path}; give one such as book/results/NAME.json")
    folder = from_root(results_dir)
    if folder.resolve() == path.parent.resolve():
        raise ValueError(f"{path} lies in results_dir={str(results_dir)!r}; give another folder")
    manifest = results.load(path)
    if "data" not in manifest:
        raise ValueError(f"{path} does not say on which data it was made; what could be compared?")
    condition = Condition(**manifest["condition"])
    data_dir, vectors = (v and str(from_root(v)) for v in (data_dir, vectors))
    work = task(condition, data_dir, vectors)
    there = device or ("cpu" if manifest["made_with"]["device"] == "cpu" else "cuda")
    if there == "cuda" and not torch.cuda.is_available():
        made = f"{path.name} was made on {manifest['made_with']['device']}, and "
        raise ValueError(
            f'{"" if device else made}there is no GPU here; give device="cpu", or --device cpu, '
            "whose last bits differ"
        )
    writable(folder)
    _ = work.data  # what lacks its corpus fails before anything that is there is touched
    results.set_aside(folder, [condition])
    with _threads(manifest["made_with"].get("threads", torch.get_num_threads())):
        (again,) = train(work, [condition], folder, progress=progress, device=there)
    return Rerun(manifest, again, differences(manifest, again))


def task(
    condition: Condition,
    data_dir: str | os.PathLike | None = None,
    vectors: str | os.PathLike | None = None,
):
    """The task of a condition, with the condition's settings.

    Raises:
        ValueError: the condition has word vectors of a file, and ``vectors`` is not that file.
    """
    s = dict(condition.settings)
    cell = s.get("cell", "lstm")
    if condition.task == "temporal_order":
        return TemporalOrder(s, s["length"], cell)
    if condition.task == "ner":
        named = None if s["vectors"] == "own" else s["vectors"]
        given = label(vectors) if vectors else None
        if named != given:
            raise ValueError(
                f"vectors={str(vectors)!r} are {given!r}, but this result was made with {named!r}"
            )
        return NamedEntities(s, data_dir, vectors, cell)
    models = {"word_lm": WordLanguageModel, "char_lm": CharacterLanguageModel}
    return models[condition.task](s, data_dir, cell)


def differences(first: dict, second: dict) -> tuple[str, ...]:
    """What differs between two manifests of one condition: outcome, data, figures by epoch."""
    found = [
        f"{key}: {first[key]!r} then, {second[key]!r} now"
        for key in ("status", "data")
        if first[key] != second[key]
    ]
    curves = first["curve"], second["curve"]
    if len(curves[0]) != len(curves[1]):
        found.append(f"epochs: {len(curves[0])} then, {len(curves[1])} now")
    for then, now in zip(*curves, strict=False):
        if apart := _apart(then, now):
            found.append(f"first in epoch {then['epoch']}: {apart}")
            break
    for which in ("last", "best"):
        then, now = first["final"][which], second["final"][which]
        if not (then and now):
            found += [] if then == now else [f"{which} epoch: {then} then, {now} now"]
        # Of a network that diverged it is the last one tested, which may be another.
        elif then["epoch"] == now["epoch"] and (apart := _apart(then, now)):
            found.append(f"{which} epoch: {apart}")
    return tuple(found)


def _apart(then: dict, now: dict) -> str:
    """In words; not each epoch need have been tested in both."""
    tested = {"test"} <= then.keys() & now.keys()
    keys = [k for k in then | now if then.get(k) != now.get(k) and (k != "test" or tested)]
    return ", ".join(f"{k} {then.get(k)} then, {now.get(k)} now" for k in keys)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
