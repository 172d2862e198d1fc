"""Small tensors everywhere: one thread is fastest, and every test starts from the same seed."""

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("recdrop", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("recdrop")
torch.set_num_threads(1)
if not torch.cuda.is_available():
    # Decided when the GPU's kernels are first imported, which collecting doctests does. Besides, a
    # test must ask for them by RECDROP_BACKEND=triton.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def same_seed() -> None:
    torch.manual_seed(20160316)


@pytest.fixture(name="threads")
def _threads():
    """Sets their number, for one test."""
    yield torch.set_num_threads
    torch.set_num_threads(1)
