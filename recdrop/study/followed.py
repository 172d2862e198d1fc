"""Follows the equations of plateaus for the book's networks, and keeps what they say in a file.

To follow them takes up to minutes for a setting, so they are followed once. This adds what the
file does not have yet, for all networks in a folder and for those of Table 1 that are not run:

    python -m recdrop.study.followed book/results
"""

import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import torch

from recdrop.study import files, plateau
from recdrop.study.conditions import Condition

FILE = "followed.json"


def read(results_dir: str | os.PathLike) -> dict[str, float]:
    """Epochs at chance by :func:`recdrop.study.plateau.setting`; empty where there is no file."""
    path = files.from_root(results_dir) / FILE
    return json.loads(path.read_text()) if path.exists() else {}


def epochs(condition: Condition) -> float:
    """What :func:`recdrop.study.plateau.followed` says, in epochs; on one core."""
    torch.set_num_threads(1)
    return plateau.followed(condition) / condition.settings["batches"]


def add(conditions: Iterable[Condition], results_dir: str | os.PathLike) -> dict[str, float]:
    """Follows those that the folder's file does not have, on all cores; each is kept when known."""
    kept = read(results_dir)
    left = {plateau.setting(c): c for c in conditions if plateau.setting(c) not in kept}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        working = {pool.submit(epochs, c): name for name, c in left.items()}
        for done in as_completed(working):
            kept[working[done]] = done.result()
            print(f"{working[done]}: {done.result():,.1f} epochs", flush=True)
            text = json.dumps(dict(sorted(kept.items())), indent=1) + "\n"
            with files.atomic(files.from_root(results_dir) / FILE) as part:
                part.write_text(text)
    return kept


if __name__ == "__main__":
    add(plateau.to_follow(plateau.published(sys.argv[1])), sys.argv[1])
