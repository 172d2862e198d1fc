"""The explorer's networks: which they are, and how they travel in a page."""

import base64
import os

import numpy as np
import torch
from torch import Tensor

from recdrop.dropout import SAMPLINGS, RecurrentDropout
from recdrop.study import results
from recdrop.study.conditions import Condition, grid
from recdrop.tasks.temporal_order import Classifier, TemporalOrder

RATES = (0.25, 0.5, 0.75)
SCHEMES = ("none", "semeniuta", "gal", "moon")
WEIGHTS = ("recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "recurrent.bias", "readout.weight",
           "readout.bias")  # fmt: skip

MISSING = (
    "{name} is not in {folder}; train the explorer's networks there:\n"
    "    papermill notebooks/02_memory_loss.ipynb runs/explorer.ipynb "
    '-p schemes \'["none", "semeniuta", "gal", "moon"]\' -p rates \'[0.25, 0.5, 0.75]\' '
    "-p seeds 0 -p results_dir {folder}"
)


def conditions(profile: str = "quick", seed: int = 0) -> list[Condition]:
    """Nineteen networks of one seed: no dropout, and each scheme, sampling and rate."""
    task = TemporalOrder(profile)
    return grid(task.name, task.settings, SCHEMES, RATES, SAMPLINGS, seeds=[seed])


def read(results_dir: str | os.PathLike, profile: str = "quick", seed: int = 0) -> list[dict]:
    """The networks packed for a page, with their figures from the manifests.

    Raises:
        FileNotFoundError: a network has not been trained; the message says how to.
    """
    found = []
    for condition in conditions(profile, seed):
        manifest = results.read(results_dir, condition)
        if manifest is None:
            raise FileNotFoundError(MISSING.format(name=condition.name, folder=results_dir))
        last, settings = manifest["final"]["last"], condition.settings
        found.append(
            {"name": condition.name, "scheme": condition.scheme, "per": condition.per,
             "rate": condition.rate, "seed": seed, "protocol": manifest["protocol"],
             "units": settings["hidden"], "length": settings["length"], "tested": settings["test"],
             "epoch": last["epoch"], "train": last["train"], "test": last["test"],
             "weights": pack(results.load_weights(results_dir, condition))}
        )  # fmt: skip
    return found


def pack(weights: dict[str, Tensor]) -> str:
    """A Classifier's weights as half-precision floats in base64, in the order of WEIGHTS."""
    both = weights["recurrent.bias_ih_l0"] + weights["recurrent.bias_hh_l0"]
    weights = weights | {"recurrent.bias": both}
    return _base64(np.concatenate([weights[k].numpy().astype("<f2").ravel() for k in WEIGHTS]))


def unpack(packed: dict, recurrent_dropout: RecurrentDropout) -> Classifier:
    """The network of a page in float64, in evaluation mode: what JavaScript computes with."""
    with torch.random.fork_rng(devices=[]):
        model = Classifier(packed["units"], recurrent_dropout).double()
    values = np.frombuffer(base64.b64decode(packed["weights"]), "<f2").astype(np.float64)
    state, at = model.state_dict(), 0
    state["recurrent.bias_hh_l0"].zero_()
    state["recurrent.bias"] = state["recurrent.bias_ih_l0"]
    for name in WEIGHTS:
        count = state[name].numel()
        state[name].copy_(torch.from_numpy(values[at : at + count]).view_as(state[name]))
        at += count
    return model.eval()


def pack_sequences(x: Tensor) -> str:
    """Sequences (T, B) of symbols 0 to 3 in base64, 2 bits a symbol, one sequence after another."""
    symbols = x.T.reshape(-1).numpy().astype(np.uint8)
    symbols = np.pad(symbols, (0, -len(symbols) % 4)).reshape(-1, 4)
    return _base64((symbols << np.array([0, 2, 4, 6], np.uint8)).sum(1).astype(np.uint8))


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
