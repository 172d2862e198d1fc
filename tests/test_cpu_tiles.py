"""Products of bfloat16 in tiles, registers of 16 rows that some processors multiply like matrices
(AMX): at the borders of tiles, beside other users of them, and where they may not be used. Where
there are none, the first ones test the kernel's products by vectors."""

import subprocess
from pathlib import Path

import pytest
import torch
from test_cpu_kernel import (
    HALF,
    ROOT,
    SINGLE,
    assert_follows,
    in_process,
    needs_kernel,
    single,
)
from test_recurrence import OFF, STEP, masking, networks

from recdrop.kernels import build, cpu
from recdrop.recurrence import scan

pytestmark = needs_kernel
needs_tiles = pytest.mark.skipif(
    "in tiles" not in cpu.description(), reason=f"no tiles here: {cpu.description()}"
)
MASKED = [(STEP, STEP, OFF)]


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECDROP_BACKEND", "cpu")


@pytest.mark.parametrize("B", [15, 16, 17, 31, 32, 33, 48, 65])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_as_many_rows_as_tiles_have_and_one_more_or_less(B: int, ragged: bool):
    nets = networks("lstm_tanh", 1, T=4, B=B, I=24, H=40)
    for weight in (nets.w_ih, nets.w_hh):
        weight.data /= weight.shape[-1] ** 0.5
    lengths = torch.arange(B)[None] % 5 if ragged else None
    assert_follows("lstm_tanh", nets, masking(MASKED), lengths, share=HALF, bf16=True)


@pytest.mark.parametrize(("bf16", "T", "B"), [(False, 10, 32), (True, 10, 60)])
def test_sums_over_more_steps_and_rows_than_are_taken_at_once(bf16: bool, T: int, B: int):
    nets = networks("lstm_tanh", 1, T=T, B=B, I=8, H=16)
    share = HALF if bf16 else SINGLE
    assert_follows("lstm_tanh", nets, masking(MASKED), share=share, bf16=bf16)


@pytest.mark.parametrize("trouble", [float("inf"), float("nan")])
def test_trouble_in_a_row_stays_there(trouble: float):
    """What fills a row's last words up must be zeros, not the next row's numbers."""
    clean, given = single(networks("lstm_tanh", 1, T=3, B=18, I=5, H=9)), masking(MASKED)
    hurt = single(clean)
    hurt.x.data[:, :, 7] = trouble
    rows = [b for b in range(18) if b != 7]
    (h, c), (h2, c2) = (scan("lstm_tanh", *v, *given, bf16=True) for v in (clean, hurt))
    dx, dx2 = (
        torch.autograd.grad(h[:, :, rows].sum(), nets.x)[0] for h, nets in ((h, clean), (h2, hurt))
    )
    for a, b in ((h, h2), (c, c2), (dx, dx2)):
        assert torch.equal(a[:, :, rows], b[:, :, rows])
    assert not h2[:, :, 7].isfinite().all()


OTHER = """
#include "{kernel}"
// Each thread of a team sets up tiles of an odd shape, and finds them as they were.
struct alignas(64) Shapes {{ uint8_t bytes[64]; }};
const Shapes OWN = [] {{
  Shapes own{{}};
  own.bytes[0] = 1, own.bytes[16] = 12, own.bytes[48] = 3;  // tile 0: 3 rows of 12 bytes
  return own;
}}();
extern "C" void take() {{
#pragma omp parallel num_threads(2)
  _tile_loadconfig(&OWN);
}}
extern "C" int kept() {{
  std::atomic<int> same{{0}};
#pragma omp parallel num_threads(2)
  {{
    Shapes found{{}};
    _tile_storeconfig(&found);
    settle_memory();
    same += !std::memcmp(&found, &OWN, sizeof found);
  }}
  return same;
}}
"""
BESIDE = """
import ctypes, sys
sys.path[:0] = [{tests!r}]
import torch
from recdrop.kernels import cpu
library = ctypes.CDLL({library!r})
cpu._load = lambda: library
from test_cpu_kernel import results, single
from test_cpu_tiles import MASKED, masking, networks, scan
torch.set_num_threads(2)
cpu.description()  # asks for tiles
nets = single(networks("lstm_tanh", 2, T=3, B=20, I=33, H=130))
library.take()
results(lambda *v: scan(*v, bf16=True), "lstm_tanh", nets, *masking(MASKED * 2))
print(library.kept())
"""


@needs_tiles
def test_the_tiles_of_others_are_given_back(tmp_path: Path):
    source, library = tmp_path / "other.cpp", tmp_path / "other.so"
    source.write_text(OTHER.format(kernel=build.MAIN))
    flags = "-std=c++17 -O1 -march=native -fopenmp -fPIC -shared -Wno-psabi".split()
    subprocess.run([*build._compiler(), *flags, str(source), "-o", str(library)], check=True)
    code = BESIDE.format(tests=str(ROOT / "tests"), library=str(library))
    run = in_process(code, tmp_path, RECDROP_BACKEND="cpu")
    assert run.stdout == "2\n", run.stderr[-3000:]


REFUSED = """
import ctypes, sys
class Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(4096)  # a signal's frame has no room for tiles there
stack = Stack(ctypes.addressof(memory), 0, 4096)
assert not ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)
from recdrop.kernels import cpu
print(cpu.description())
sys.path[:0] = [{tests!r}]
from test_cpu_tiles import *
test_as_many_rows_as_tiles_have_and_one_more_or_less(33, True)
"""


@needs_tiles
def test_where_the_system_refuses_tiles_vectors_do(tmp_path: Path):
    code = REFUSED.format(tests=str(ROOT / "tests"))
    run = in_process(code, tmp_path, RECDROP_BACKEND="cpu")
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.endswith("AMX is refused here\n")
