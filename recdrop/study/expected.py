"""Follows the equations of plateaus for the book's networks, and keeps what they say in a file.

To follow them takes up to minutes for a setting, so they are followed once. This adds what the
file does not have, for all networks in a folder and for those of Table 1 that are not run; without
the file, everything::

    python -m recdrop.study.followed book/results
"""

import argparse
import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import torch

from recdrop.study import files, plateau
from recdrop.study.conditions import Condition

FILE = "followed.json"


def read(results_dir: str | os.PathLike) -> dict[str, float]:
    """Epochs at chance by :func:`recdrop.study.plateau.setting`; empty where there is no file.

    Raises:
        ValueError: the file is not JSON.
    """
    path = files.from_root(results_dir) / FILE
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and make it anew") from error


def epochs(condition: Condition) -> float:
    """What :func:`recdrop.study.plateau.followed` says, in epochs."""
    return plateau.followed(condition) / condition.settings["batches"]


def add(conditions: Iterable[Condition], results_dir: str | os.PathLike) -> dict[str, float]:
    """Follows those that the folder's file does not have, one on a core; each is kept when known.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder = files.writable(results_dir)
    kept = read(results_dir)
    left = {plateau.setting(c): c for c in conditions if plateau.setting(c) not in kept}
    alone = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(mp_context=get_context("spawn"), **alone) as pool:
        working = {pool.submit(epochs, c): name for name, c in left.items()}
        for done in as_completed(working):
            kept[working[done]] = done.result()
            print(f"{working[done]}: {done.result():,.1f} epochs", flush=True)
            text = json.dumps(dict(sorted(kept.items())), indent=1) + "\n"
            with files.atomic(folder / FILE) as part:
                part.write_text(text)
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results_dir", help="folder of manifests, such as book/results")
    folder = files.from_root(parser.parse_args().results_dir)
    if not folder.is_dir():
        parser.error(f"{str(folder)!r} is no folder; give that of the manifests: book/results")
    add(plateau.to_follow(plateau.published(folder)), folder)
