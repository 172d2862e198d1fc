"""The ways in which torch.nn's recurrent layers take a sequence, as one: (T, B, I) and lengths."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def is_unbatched(input: Tensor | PackedSequence) -> bool:
    return not isinstance(input, PackedSequence) and input.dim() == 2


def to_steps(input: Tensor | PackedSequence, batch_first: bool) -> tuple[Tensor, Tensor | None]:
    """(T, B, I), and (B,) lengths of a PackedSequence, rows in the caller's order."""
    if isinstance(input, PackedSequence):
        x, lengths = pad_packed_sequence(input)
        return x, lengths.to(x.device)
    if input.dim() not in (2, 3):
        raise ValueError(f"input has {input.dim()} dimensions; give 3, or 2 if it is unbatched")
    if input.dim() == 2:
        x = input.unsqueeze(1)
    else:
        x = input.transpose(0, 1) if batch_first else input
    if not x.shape[0]:
        raise RuntimeError(f"input of shape {tuple(input.shape)} has no time step; give 1 or more")
    return x, None


def from_steps(
    x: Tensor, lengths: Tensor | None, like: Tensor | PackedSequence, batch_first: bool
) -> Tensor | PackedSequence:
    """(T, B, N) in the form that the input ``like`` has."""
    if isinstance(like, PackedSequence):
        order = like.sorted_indices
        if order is not None:
            x, lengths = x[:, order], lengths[order]
        return like._replace(data=pack_padded_sequence(x, lengths.cpu()).data)
    if like.dim() == 2:
        return x.squeeze(1)
    return x.transpose(0, 1) if batch_first else x


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(T, B, N) backwards in time; each row within its own length."""
    if lengths is None:
        return x.flip(0)
    t = torch.arange(x.shape[0], device=x.device)[:, None]
    return x.gather(0, torch.where(t < lengths, lengths - 1 - t, t)[..., None].expand_as(x))
