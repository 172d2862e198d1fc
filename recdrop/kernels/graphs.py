"""Loops of kernel launches as CUDA graphs: a loop over time without Python between its steps."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

WARM_UP = 2
"""Calls of the same shapes that are launched one by one before they are worth a graph."""
MOST = 8
"""Graphs kept; each holds copies of its tensors. The one least recently used goes first."""
LARGE = 1 << 30
"""Bytes from which copying a call's tensors would take longer than launching its kernels."""

Launch = Callable[[Sequence[Tensor | None]], None]


class _Graph:
    """A recorded loop over tensors of its own."""

    def __init__(self, launch: Launch, tensors: Sequence[Tensor | None]):
        # They outlive the call that is recorded, and neither its mode nor its gradients.
        with torch.inference_mode(False), torch.no_grad():
            self.tensors = [None if v is None else v.clone() for v in tensors]
        self.replay = capture(lambda: launch(self.tensors)).replay

    def __call__(self, tensors: Sequence[Tensor | None], written: Sequence[int]) -> None:
        given = [i for i, v in enumerate(tensors) if v is not None]
        torch._foreach_copy_([self.tensors[i] for i in given], [tensors[i] for i in given])
        self.replay()
        torch._foreach_copy_([tensors[i] for i in written], [self.tensors[i] for i in written])


_graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
_calls: OrderedDict[Hashable, int] = OrderedDict()
_lock = threading.Lock()
"""A graph's tensors are those of one call at a time."""
_off = 0  # for all threads, as backward passes run in others


@contextmanager
def launched() -> Iterator[None]:
    """Inside, loops are launched: who is about to record a whole has no use for its parts."""
    global _off
    _off += 1
    try:
        yield
    finally:
        _off -= 1


def run(
    key: Hashable, launch: Launch, tensors: Sequence[Tensor | None], written: Sequence[int]
) -> None:
    """``launch(tensors)``, which writes into those at the places ``written``; allocates nothing.

    On a CUDA stream it is recorded after a few calls of the same ``key`` and shapes, and replayed
    from then on. Where the caller records a graph already, it becomes part of that.
    """
    size = sum(v.nbytes for v in tensors if v is not None)
    if not _on_cuda(tensors[0]) or size > LARGE or _off or _recording():
        launch(tensors)
        return
    kinds = (None if v is None else (v.shape, v.dtype) for v in tensors)
    key = (key, _stream(tensors[0]), *kinds)
    with _lock:
        if key not in _graphs:
            seen = _calls.pop(key, 0) + 1
            if seen <= WARM_UP:
                _calls[key] = seen
                while len(_calls) > 16 * MOST:
                    _calls.popitem(last=False)
                launch(tensors)
                return
            _graphs[key] = _Graph(launch, tensors)
            while len(_graphs) > MOST:
                _graphs.popitem(last=False)
        _graphs.move_to_end(key)
        _graphs[key](tensors, written)


def _on_cuda(v: Tensor) -> bool:
    return v.is_cuda


def _recording() -> bool:
    return torch.cuda.is_current_stream_capturing()


def _stream(v: Tensor) -> tuple[int | None, int]:
    return v.device.index, torch.cuda.current_stream(v.device).cuda_stream


def capture(work: Callable[[], None], pool: tuple[int, int] | None = None) -> torch.cuda.CUDAGraph:
    """Record what ``work`` launches; other threads may go on launching meanwhile.

    Graphs of one ``pool`` share memory: of their results, only the last replayed one's last.
    """
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
        work()
    return graph
