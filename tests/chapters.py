"""A chapter's parameters, as its first cell sets them."""

import os

from recdrop.study.parameters import Parameters, read


def parameters(results_dir: str | os.PathLike, **other) -> Parameters:
    """Those of one network, of a run that tests the machinery unless ``other`` says more."""
    one = dict(
        profile="smoke", schemes="gal", rates=0.5, samplings="step", forward=False, seeds=0,
        device="cpu", data_dir=None, results_dir=str(results_dir), fresh=False,
    )  # fmt: skip
    return read(one | other)
