"""The mask stream of :mod:`recdrop.masks` by compiled kernels, where they are: the same bits.

Drawn by operations of torch, masks cost a character model an eighth of its time on a CPU, and a
module's seed costs a GPU's host 2 ms, more than all else that a small network's update asks of it.
"""

import torch
from torch import Tensor
from torch.library import custom_op

from recdrop import masks
from recdrop.kernels import cpu, triton
from recdrop.replicate import vmap_rule


@custom_op("recdrop::kept", mutates_args=())
def kept(
    seeds: Tensor, levels: Tensor, site: str, steps: int, rows: int, units: int, layer: int
) -> Tensor:
    """:func:`recdrop.masks.kept` of seeds and levels (R,): (R, steps, rows, units) bool.

    Raises ValueError for an unknown site, or seeds and levels of other shapes.
    """
    if site not in masks.SITE_CODES:
        raise ValueError(f"site={site!r} is unknown; choose one of {(*masks.SITE_CODES,)}")
    if seeds.dim() != 1 or levels.shape != seeds.shape:
        raise ValueError(
            f"seeds have the shape {tuple(seeds.shape)} and levels {tuple(levels.shape)}; give (R,)"
        )
    # Lent buffers may be of another type, as whoever casts all of a module's tensors makes them.
    seeds, levels = seeds.to(torch.int64), levels.to(torch.int64)
    word = layer << 8 | masks.SITE_CODES[site]
    if triton.wanted(seeds):
        return triton.kept(seeds, levels, word, steps, rows, units)
    if seeds.device.type == "cpu" and cpu.library() is not None:
        return cpu.kept(seeds, levels, word, steps, rows, units)
    return masks.kept(seeds, levels, site, steps, rows, units, layer)


@kept.register_fake
def _(seeds, levels, site, steps, rows, units, layer):
    return seeds.new_empty(len(seeds), steps, rows, units, dtype=torch.bool)


kept.register_vmap(vmap_rule(kept))


@masks.derived_seeds.register_kernel("cuda")
def _(seeds, calls):
    return (triton.derived_seeds if triton.wanted(seeds) else masks.derive)(seeds, calls)
