"""What a notebook calls: its parameters in, the manifests of its conditions out."""

import os
import sys

from recdrop.data.download import CorpusMissing
from recdrop.study.conditions import Condition, grid
from recdrop.study.parameters import Parameters
from recdrop.study.training import train
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel


def temporal_order(p: Parameters, inverted: tuple[tuple[str, str], ...] = ()) -> list[dict]:
    """Table 1's networks under Eq. 3, at each length.

    Args:
        p: the notebook's parameters.
        inverted: (scheme, sampling) pairs that are trained under Eq. 14, too.
    """
    manifests = []
    for length in p.lengths:
        task = TemporalOrder(p.profile, length)
        conditions = _grid(task, p)
        for scheme, per in inverted:
            conditions += grid(
                task.name, task.settings, [scheme], p.rates, [per], seeds=p.seeds,
                scaling="inverted",
            )  # fmt: skip
        manifests += train(task, conditions, p.results_dir, p.fresh)
    return manifests


def word_lm(p: Parameters) -> list[dict]:
    """Table 2's networks on the Penn Treebank; without it, a generated grammar, said aloud.

    A finished result is read without the corpus.

    Raises:
        CorpusMissing: ``data_dir`` or RECDROP_DATA names a folder and the files are not there.
        CorpusDamaged: a file is there and is not the corpus.
    """
    try:
        task = WordLanguageModel(p.profile, p.data_dir)
        return train(task, _grid(task, p), p.results_dir, p.fresh)
    except CorpusMissing as error:
        if p.data_dir or os.environ.get("RECDROP_DATA"):  # a mistyped folder is not a missing one
            raise
        print(
            f"{error}\nGoing on with a small generated grammar and the smoke profile: no figure "
            "below can be compared with the paper's.",
            file=sys.stderr,
        )
        task = WordLanguageModel("smoke")
        return train(task, _grid(task, p), p.results_dir, p.fresh)


def _grid(task, p: Parameters) -> list[Condition]:
    return grid(task.name, task.settings, p.schemes, p.rates, p.samplings, p.forward, p.seeds)
