"""CUDA graphs: their bookkeeping, with a recording that needs no GPU."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from recdrop.kernels import graphs


class Recorder:
    """Stands in for a CUDA graph: replaying calls the recorded work again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.recorded = self.launched = 0
        monkeypatch.setattr(graphs, "capture", self.capture)
        monkeypatch.setattr(graphs, "_on_cuda", lambda v: True)
        monkeypatch.setattr(graphs, "_recording", lambda: False)
        monkeypatch.setattr(graphs, "_stream", lambda v: (0, 0))
        monkeypatch.setattr(graphs, "_graphs", type(graphs._graphs)())
        monkeypatch.setattr(graphs, "_calls", type(graphs._calls)())

    def capture(self, work):
        self.recorded += 1
        return SimpleNamespace(replay=work)

    def launch(self, tensors) -> None:
        source, optional, target = tensors
        self.launched += 1
        target.copy_(source + (0 if optional is None else optional))

    def run(self, value: float, size: int = 3, optional: float | None = None) -> None:
        extra = None if optional is None else torch.full((size,), optional)
        tensors = torch.full((size,), value), extra, torch.zeros(size)
        graphs.run("key", self.launch, tensors, (2,))
        assert (tensors[2] == value + (optional or 0)).all()


def test_a_graph_replays_with_the_callers_numbers(monkeypatch):
    recorder = Recorder(monkeypatch)
    for n in range(6):
        recorder.run(float(n))
    assert recorder.recorded == 1
    for n in range(6):
        recorder.run(float(n), optional=0.5)  # another call: a tensor more
    assert recorder.recorded == 2


def test_a_graph_is_one_threads_at_a_time(monkeypatch):
    """Its tensors are its own: two calls at once would read each other's numbers."""
    recorder = Recorder(monkeypatch)
    launch = recorder.launch

    def slow(tensors) -> None:
        time.sleep(2e-4)
        launch(tensors)

    recorder.launch = slow
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(recorder.run, map(float, range(100))))
    assert recorder.recorded == 1


def test_a_graph_recorded_in_inference_mode_serves_others(monkeypatch):
    recorder = Recorder(monkeypatch)
    with torch.inference_mode():
        for n in range(4):
            recorder.run(float(n))
    recorder.run(9.0)
    assert recorder.recorded == 1


def test_a_graph_keeps_no_gradients_alive(monkeypatch):
    """Nor those of a deleted model: it may be kept for long."""
    recorder = Recorder(monkeypatch)
    source = torch.ones(3, requires_grad=True)
    graph = graphs._Graph(recorder.launch, (source, None, torch.zeros(3)))
    assert not any(kept.requires_grad for kept in graph.tensors if kept is not None)


def test_few_graphs_are_kept(monkeypatch):
    recorder = Recorder(monkeypatch)
    for size in range(1, graphs.MOST + 4):
        for n in range(graphs.WARM_UP + 2):
            recorder.run(float(n), size)
    assert len(graphs._graphs) == graphs.MOST
    assert recorder.recorded == graphs.MOST + 3
    recorder.run(1.0, graphs.MOST + 3)
    assert recorder.recorded == graphs.MOST + 3


def test_parts_of_what_is_recorded_as_a_whole_are_not_recorded(monkeypatch):
    recorder = Recorder(monkeypatch)
    with graphs.launched():
        for n in range(6):
            recorder.run(float(n))
    assert (recorder.recorded, recorder.launched) == (0, 6)


def test_large_tensors_are_not_copied_for_a_graph(monkeypatch):
    recorder = Recorder(monkeypatch)
    monkeypatch.setattr(graphs, "LARGE", 100)
    for n in range(6):
        recorder.run(float(n), size=1000)
    assert recorder.recorded == 0
