"""Matrix products of plain PyTorch: right for any layout, and never slow for one."""

import pytest
import torch

from recdrop.kernels import products

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
LAYOUTS = {
    "dense": lambda R, M, K: torch.randn(R, M, K),
    "transposed": lambda R, M, K: torch.randn(R, K, M).mT,
    "replicas in the middle": lambda R, M, K: torch.randn(M, R, K).movedim(1, 0),
    "transposed with gaps": lambda R, M, K: torch.randn(K, R, M).permute(1, 2, 0),
    "a step of many": lambda R, M, K: torch.randn(R, 3, M, K)[:, 1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("R", [1, 3])
def test_products_are_those_of_float64(layout, R):
    torch.manual_seed(0)
    v, weight, bias = LAYOUTS[layout](R, 6, 5), LAYOUTS[layout](R, 4, 5), torch.randn(R, 4)
    expected = v.double() @ weight.double().mT
    torch.testing.assert_close(products.linear(v, weight).double(), expected, **CLOSE)
    found = products.linear(v, weight, bias).double()
    torch.testing.assert_close(found, expected + bias.double().unsqueeze(1), **CLOSE)
    d = LAYOUTS[layout](R, 6, 2)
    found = products.outer(d, v, torch.float32).double()
    torch.testing.assert_close(found, d.double().mT @ v.double(), **CLOSE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_onednn_never_sees_a_matrix_with_gaps(layout, monkeypatch):
    """It was a hundred times slower on them: a table of GRUs took seconds for an update."""
    if not products._suits_onednn(torch.randn(1, 1, 1), torch.randn(1, 1, 1)):
        pytest.skip("this torch has no oneDNN product")
    seen, operator = [], torch.ops.mkldnn._linear_pointwise

    def watched(a, b, *rest):
        seen.extend([a, b])
        return operator(a, b, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", watched)
    v, d = LAYOUTS[layout](3, 6, 5), LAYOUTS[layout](3, 6, 2)
    products.linear(v, LAYOUTS[layout](3, 4, 5))
    products.outer(d, v, torch.float32)
    assert len(seen) == 12
    assert all(m.is_contiguous() or m.mT.is_contiguous() for m in seen)
