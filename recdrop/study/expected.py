"""Measures the untrained networks of the book's plateaus, follows the equations, and keeps both.

It takes seconds for a network and up to minutes for a setting's equations, so it is done once. This
adds to a file what it does not have, for all networks in a folder and for those of Table 1 that are
not run; without the file, everything::

    python -m recdrop.study.expected book/results
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from recdrop.study import files, plateau
from recdrop.study.conditions import Condition

FILE = "expected.json"

Known = dict[str, dict[str, float]]  # plateau.Kept, to be added to


def read(results_dir: str | os.PathLike) -> Known:
    """What a folder's file has, as :data:`recdrop.study.plateau.Kept`; empty where there is none.

    Raises:
        ValueError: the file is not JSON.
    """
    path = files.from_root(results_dir) / FILE
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and make it anew") from error


def measured(condition: Condition) -> dict[str, float]:
    """What :func:`recdrop.study.plateau.measure` says."""
    return dict(zip(("trace", "sensitivity"), plateau.measure(condition), strict=True))


def followed(condition: Condition) -> dict[str, float]:
    """What :func:`recdrop.study.plateau.followed` says, in epochs."""
    return {"followed": plateau.followed(condition) / condition.settings["batches"]}


def add(manifests: Iterable[dict], results_dir: str | os.PathLike) -> Known:
    """Measures and follows what the folder's file does not have; each is kept when it is known.

    Raises:
        OSError: the folder cannot be written to.
    """
    manifests, path, kept = list(manifests), files.writable(results_dir) / FILE, read(results_dir)
    _each(measured, _without("trace", plateau.to_measure(manifests), kept), kept, path)
    _each(followed, _without("followed", plateau.to_follow(manifests, kept), kept), kept, path)
    return kept


def _without(name: str, conditions: Iterable[Condition], kept: Known) -> list[Condition]:
    return [c for c in conditions if name not in kept.get(plateau.setting(c), {})]


def _each(
    find: Callable[[Condition], dict], conditions: Iterable[Condition], kept: Known, path: Path
) -> None:
    """One on a core."""
    left = {plateau.setting(c): c for c in conditions}
    alone = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(mp_context=get_context("spawn"), **alone) as pool:
        working = {pool.submit(find, c): name for name, c in left.items()}
        for done in as_completed(working):
            name, found = working[done], done.result()
            kept[name] = kept.get(name, {}) | found
            print(name + ":", ", ".join(f"{k} {v:,.4g}" for k, v in found.items()), flush=True)
            with files.atomic(path) as part:
                part.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results_dir", help="folder of manifests, such as book/results")
    folder = files.from_root(parser.parse_args().results_dir)
    if not folder.is_dir():
        parser.error(f"{str(folder)!r} is no folder; give that of the manifests: book/results")
    add(plateau.published(folder), folder)
