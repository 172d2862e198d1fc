"""What a notebook calls: its parameters in, the manifests of its conditions out."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace

from recdrop.data.download import CorpusMissing
from recdrop.study.conditions import Condition, grid
from recdrop.study.parameters import ParameterError, Parameters, place
from recdrop.study.training import train
from recdrop.tasks.char_lm import CharacterLanguageModel
from recdrop.tasks.ner import NamedEntities
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel


def temporal_order(
    p: Parameters, inverted: tuple[tuple[str, str], ...] = (), cell: str = "lstm"
) -> list[dict]:
    """Table 1's networks under Eq. 3, at each length.

    Args:
        p: the notebook's parameters.
        inverted: (scheme, sampling) pairs that are trained under Eq. 14, too.
        cell: ``"lstm"``, or ``"gru"`` or ``"rnn"`` in its place.
    """
    manifests = []
    for length in p.lengths:
        task = TemporalOrder(p.profile, length, cell)
        conditions = _grid(task, p)
        for scheme, per in inverted:
            conditions += grid(
                task.name, task.settings, [scheme], p.rates, [per], seeds=p.seeds,
                scaling="inverted",
            )  # fmt: skip
        manifests += _train(task, conditions, p)
    return manifests


def word_lm(p: Parameters, cell: str = "lstm") -> list[dict]:
    """Table 2's networks on the Penn Treebank; without it, a generated grammar, said aloud.

    A finished result is read without the corpus.

    Raises:
        CorpusMissing: ``data_dir`` or RECDROP_DATA names a folder and the files are not there.
        CorpusDamaged: a file is there and is not the corpus.
    """
    return _on_corpus(lambda profile: WordLanguageModel(profile, p.data_dir, cell), p)


def char_lm(p: Parameters, cell: str = "lstm", epochs: int | None = None) -> list[dict]:
    """Table 3's networks, on the same text and under the same terms as :func:`word_lm`.

    ``epochs`` are fewer than the profile's where given, and the protocol is then named after
    them, such as ``quick-2-epochs``: shortened runs stand in no cell of the full ones.
    """

    def task(profile: str) -> CharacterLanguageModel:
        made = CharacterLanguageModel(profile, p.data_dir, cell)
        if epochs is not None and epochs < made.settings["epochs"]:
            protocol = f"{made.settings['protocol']}-{epochs}-epochs"
            made.settings |= {"epochs": epochs, "protocol": protocol}
        return made

    return _on_corpus(task, p)


def ner(p: Parameters) -> list[dict]:
    """Table 4's networks on CoNLL-2003, under the same terms as :func:`word_lm`."""
    return _on_corpus(lambda profile: NamedEntities(profile, p.data_dir, p.vectors), p)


def where(p: Parameters, manifests: list[dict]) -> Parameters:
    """The parameters with the folder that these manifests lie in: without a corpus the book's
    own results stay what they are."""
    smoke = manifests[0]["protocol"].partition("-")[0] == "smoke"  # or such as smoke-given-vectors
    return _elsewhere(p) if smoke else p


def _elsewhere(p: Parameters) -> Parameters:
    return replace(p, results_dir=place("smoke", p.results_dir))


def _on_corpus(make: Callable, p: Parameters) -> list[dict]:
    try:
        task = make(p.profile)
        return _train(task, _grid(task, p), p)
    except CorpusMissing as error:
        if p.data_dir or os.environ.get("RECDROP_DATA"):  # a mistyped folder is not a missing one
            raise
        print(
            f"{error}\nGoing on with a small generated grammar and the smoke profile: no figure "
            "below can be compared with the paper's.",
            file=sys.stderr,
        )
        task, p = make("smoke"), _elsewhere(p)
        return _train(task, _grid(task, p), p)


def _train(task, conditions: list[Condition], p: Parameters) -> list[dict]:
    if not conditions:
        raise ParameterError(
            f"schemes={p.schemes} with rates={p.rates}: none of them exists for this network; a "
            'vanilla RNN has "none" and "gal", or the rate 0'
        )
    return train(task, conditions, p.results_dir, p.fresh, at_once=p.at_once, device=p.device)


def _grid(task, p: Parameters) -> list[Condition]:
    found = grid(task.name, task.settings, p.schemes, p.rates, p.samplings, p.forward, p.seeds)
    if task.settings.get("cell") == "rnn":
        # It has a hidden state alone, to which Gal's scheme (there Eq. 2) applies.
        found = [c for c in found if c.scheme in ("none", "gal")]
    return found
