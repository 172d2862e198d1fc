"""Our operators under torch.func: torch.vmap stacks networks, other transforms are refused."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch.autograd import forward_ad

DERIVATIVES = {TransformType.Grad, TransformType.Jvp}


def transforms() -> set[TransformType]:
    """The kinds of torch.func transforms that surround the caller.

    What a compiler makes must be good for torch.vmap too; what is exported runs by itself.
    """
    found = _surrounding()
    compiling = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    return {TransformType.Vmap} | found if compiling else found


def _surrounding() -> set[TransformType]:
    if torch._C._functorch.peek_interpreter_stack() is None:
        return set()
    return {level.key() for level in torch._C._functorch.get_interpreter_stack()}


# A compiler cannot look into it: it is called as the compiler passes by, which compiles anew under
# other transforms. torch.compiler.assume_constant_result says so too, but imports the compiler.
_surrounding._dynamo_marked_constant = True


def refuse_derivatives(operator: str, *tensors: Tensor | None) -> None:
    """To be called where an operator is used, as torch would pass over its derivatives in silence.

    Raises:
        NotImplementedError: torch.func differentiates what surrounds the caller, or one of its
            tensors is a dual one of torch.autograd.forward_ad.
    """
    given = [v for v in tensors if v is not None] if forward_ad._current_level >= 0 else []
    dual = any(forward_ad.unpack_dual(v).tangent is not None for v in given)
    if dual or transforms() & DERIVATIVES:
        raise NotImplementedError(
            f"torch.func's grad, vjp and jvp, and torch.autograd.forward_ad, do not know recdrop's "
            f"{operator}; take gradients by backward() or torch.autograd.grad, around a torch.vmap "
            "if there is one"
        )


def on_one_device(operator: str, x: Tensor, *tensors: Tensor | None) -> None:
    """To be called likewise: where one of its tensors is on "meta", torch computes nothing.

    Raises:
        RuntimeError: a tensor is on another device than ``x``.
    """
    for v in tensors:
        if v is not None and v.device != x.device:
            raise RuntimeError(
                f"recdrop's {operator} has its input on {x.device} and weights or other tensors on "
                f"{v.device}; move all to one device, and load the weights of a model on meta"
            )


def vmap_rule(operator: Callable) -> Callable:
    """A rule for ``register_vmap`` of an operator whose tensors all have replicas in front.

    A vmap over V networks folds into that dimension: (V, R, ...) becomes (V*R, ...), and back.
    """

    def rule(info, in_dims, *args):
        V = info.batch_size

        def fold(v, dim):
            if isinstance(v, list):
                return [fold(*pair) for pair in zip(v, dim, strict=True)]
            if not isinstance(v, Tensor):
                return v
            v = v.unsqueeze(0).expand(V, *v.shape) if dim is None else v.movedim(dim, 0)
            return v.flatten(0, 1)

        def unfold(v):
            return v.unflatten(0, (V, v.shape[0] // V))

        results = operator(*(fold(v, dim) for v, dim in zip(args, in_dims, strict=True)))
        if isinstance(results, Tensor):
            return unfold(results), 0
        return type(results)(map(unfold, results)), type(results)([0] * len(results))

    return rule
