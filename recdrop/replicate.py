"""The replica dimension under torch.vmap: what all our operators do with stacked networks."""

from collections.abc import Callable

from torch import Tensor


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
