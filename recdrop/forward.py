"""Dropout of forward connections, the one beside which the paper's schemes are measured."""

import torch
from torch import Tensor, nn

from recdrop import draws, masks
from recdrop.dropout import LEVELS, threshold
from recdrop.replicate import on_one_device


class Dropout(nn.Module):
    r"""Dropout of forward connections, Eq. 14, on the same mask stream as the recurrent sites.

    Input and output have the same shape, (\*, units) with any leading dimensions; masks are drawn
    anew for each element. Unlike torch.nn.Dropout it gives each network of a table its own masks.

    Args:
        p: dropout rate in [0, 1), used in multiples of 1/65536.
        site: ``"input"`` or ``"output"`` of the recurrent layer.

    Raises:
        TypeError: ``p`` is not a number.
        ValueError: ``p`` is no rate, see :func:`recdrop.dropout.threshold`, or ``site`` is unknown.

    >>> drop = Dropout(0.5)
    >>> sorted(set(drop(torch.ones(100, 4)).flatten().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, p: float = 0.5, site: str = "input"):
        super().__init__()
        if site not in ("input", "output"):
            raise ValueError(f"site={site!r} is unknown; choose 'input' or 'output'")
        self.p, self.site = p, site

    @property
    def p(self) -> float:
        """The dropout rate; may be replaced at any time."""
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        before = self._buffers.get("threshold")
        with torch.inference_mode(False):  # which may end before training begins
            level = torch.tensor(threshold(p, "p"), device=getattr(before, "device", None))
        self._p, self._own = p, level
        self.register_buffer("threshold", level, persistent=False)

    def _apply(self, fn, recurse=True):
        """The buffer is in no state_dict: make it anew, or ``to_empty`` would leave it random."""
        super()._apply(fn, recurse)
        self.p = self.p
        return self

    def forward(self, input: Tensor) -> Tensor:
        """Training: masked and scaled by 1/(1-p). Evaluation: the input itself.

        Raises TypeError for an input of integers, RuntimeError for a level that
        torch.func.functional_call lends from another device.
        """
        if not self.training:
            return input
        if not (input.is_floating_point() or input.is_complex()):
            raise TypeError(f"input is {input.dtype}; give a floating type, as input.float() does")
        level = self.threshold
        if level.device != input.device:
            if level is not self._own:  # it is lent, as to a network of a table
                on_one_device("Dropout", input, level)
            # It has no weights, so nobody need move it.
            level = torch.full((), threshold(self.p), device=input.device)
        return forward_dropout(input, level, masks.next_seed(input.device), self.site)

    def extra_repr(self) -> str:
        return f"p={self.p}, site={self.site!r}"


def forward_dropout(x: Tensor, level: Tensor, seed: Tensor, site: str, layer: int = 0) -> Tensor:
    """x (..., units), masked and scaled; ``level`` = ``round(65536 p)``, ``seed``: () int64."""
    units = x.shape[-1] if x.dim() else 1
    rows = x.numel() // max(units, 1)
    keep = draws.kept(seed.view(1), level.view(1), site, 1, rows, units, layer).view(x.shape)
    wide = torch.float64 if x.dtype in (torch.float64, torch.complex128) else torch.float32
    return x * keep * (LEVELS / (LEVELS - level).to(wide)).to(x.dtype)
