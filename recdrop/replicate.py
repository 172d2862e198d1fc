"""Our operators under torch.func: torch.vmap stacks networks, other transforms are refused."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._C._functorch import TransformType

DERIVATIVES = {TransformType.Grad, TransformType.Jvp}


def transforms() -> set[TransformType]:
    """The kinds of torch.func transforms that surround the caller.

    What a compiler makes must be good for torch.vmap too.
    """
    found = _surrounding()
    return {TransformType.Vmap} | found if torch.compiler.is_compiling() else found


def _surrounding() -> set[TransformType]:
    if torch._C._functorch.peek_interpreter_stack() is None:
        return set()
    return {level.key() for level in torch._C._functorch.get_interpreter_stack()}


# A compiler cannot look into it: it is called as the compiler passes by, which compiles anew under
# other transforms. torch.compiler.assume_constant_result says so too, but imports the compiler.
_surrounding._dynamo_marked_constant = True


def refuse_derivatives(operator: str) -> None:
    """To be called where an operator is used, as torch would pass over its derivatives in silence.

    Raises:
        NotImplementedError: torch.func differentiates what surrounds the caller.
    """
    if transforms() & DERIVATIVES:
        raise NotImplementedError(
            f"torch.func's grad, vjp and jvp do not know recdrop's {operator}; take gradients by "
            "backward() or torch.autograd.grad, around a torch.vmap if there is one"
        )


def vmap_rule(operator: Callable) -> Callable:
    """A rule for ``register_vmap`` of an operator whose tensors all have replicas in front.

    A vmap over V networks folds into that dimension: (V, R, ...) becomes (V*R, ...), and back.
    """

    def rule(info, in_dims, *args):
        V = info.batch_size

        def fold(v, dim):
            if not isinstance(v, Tensor):
                return v
            v = v.unsqueeze(0).expand(V, *v.shape) if dim is None else v.movedim(dim, 0)
            return v.flatten(0, 1)

        def unfold(v):
            return v.unflatten(0, (V, v.shape[0] // V))

        results = operator(*(fold(v, dim) for v, dim in zip(args, in_dims, strict=True)))
        if isinstance(results, Tensor):
            return unfold(results), 0
        return tuple(map(unfold, results)), (0,) * len(results)

    return rule
