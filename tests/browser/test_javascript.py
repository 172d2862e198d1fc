"""The page's own arithmetic is recdrop's: its masks bit for bit, its LSTM to 1e-5."""

import pytest
import torch

import recdrop
from recdrop import masks
from recdrop.data.temporal_order import CLASSES, sequences
from recdrop.dropout import RecurrentDropout, threshold
from recdrop.study import memory
from recdrop.widgets import MemoryExplorer, networks
from recdrop.widgets.part import script

NAMES = """philox moduleKey threshold kept dropout run classProbabilities unpack unpackSequences
classOf isRight predicted lineFactor wilson""".split()

OWN, GAL, MOON = (getattr(RecurrentDropout, s) for s in ("semeniuta", "gal", "moon"))


@pytest.fixture(scope="module")
def js(browser):
    """``js(code, argument)``: the value of JavaScript that sees the sources' functions."""
    context = browser.new_context()
    page = context.new_page()
    sources = script("theory.js") + script("networks.js") + script("statistics.js")
    page.evaluate(
        """async (text) => {
            const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
            Object.assign(globalThis, await import(url));
        }""",
        f"{sources}\nexport {{ {', '.join(NAMES)} }};",
    )
    yield page.evaluate
    context.close()


def test_philox_is_that_of_the_paper(js):
    words = js("philox([0, 0, 0, 0], [0, 0])")
    assert [f"{word:08x}" for word in words] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    words = js("philox([0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff])")
    assert [f"{word:08x}" for word in words] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


@pytest.mark.parametrize(
    "rate", [0.0, 0.05, 0.25, 0.3, 1 / 3, 0.9, 0.5 / 65536 + 2**-40, 1.5 / 65536]
)
def test_rates_are_quantised_alike(js, rate: float):
    assert js("threshold", rate) == (threshold(rate) if rate else 0)


@pytest.mark.parametrize("site", ["update", "hidden", "cell"])
@pytest.mark.parametrize("units", [1, 8, 20])
def test_masks_are_the_same_bits(js, site: str, units: int):
    seed = 0x9ABCDEF012345678 - 2**64
    ours = masks.kept(torch.tensor([seed]), 20_000, site, steps=5, rows=3, units=units)[0]
    theirs = js(
        """([site, units]) => [0, 1, 2, 3, 4].map((step) => [0, 1, 2].map((row) => {
            const out = new Uint8Array(units);
            kept([0x12345678, 0x9abcdef0], 20000, site, step, row, out);
            return [...out];
        }))""",
        [site, units],
    )
    assert ours.int().tolist() == theirs


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_seeds_are_those_of_seeding(js, seed: int):
    with masks.seeding(seed):
        drawn = int(masks.next_seed()) % 2**64
    assert js("moduleKey", seed) == [drawn & 0xFFFFFFFF, drawn >> 32]


DROPOUTS = {
    "none": RecurrentDropout(),
    **{
        f"{scheme.__name__}-{per}-{scaling}": scheme(rate, per=per, scaling=scaling)
        for scheme, rate in ((OWN, 0.5), (GAL, 0.25), (MOON, 0.3))
        for per in ("step", "sequence")
        for scaling in ("paper", "inverted")
    },
    "all sites": OWN(0.1) | GAL(0.5, per="sequence") | MOON(0.05, per="step"),
}
RUN = """({ cell, x, dropouts, masked, scaling, seed, rows }) => {
    const weights = { ...cell };
    const sites = dropout({ ...dropouts, masked, scaling });
    return rows.map(({ x, h0, c0 }, row) => {
        const found = run(weights, x, sites, moduleKey(seed), row, h0, c0);
        return [[...found.h], [...found.c]];
    });
}"""


@pytest.mark.parametrize("masked", [True, False], ids=["masks", "evaluation"])
@pytest.mark.parametrize(
    ("inputs", "units", "steps"), [(4, 1, 1), (3, 5, 15), (4, 8, 30), (4, 32, 60)], ids=str
)
@pytest.mark.parametrize("drop", DROPOUTS.values(), ids=DROPOUTS)
def test_the_lstm_is_recdrops(js, drop, inputs: int, units: int, steps: int, masked: bool):
    lstm = recdrop.LSTM(inputs, units, recurrent_dropout=drop).train(masked)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.uniform_(-0.5, 0.5)
    rows, seed = 3, 7
    x, h0, c0 = torch.randn(steps, rows, inputs), torch.randn(rows, units), torch.randn(rows, units)
    with torch.no_grad(), masks.seeding(seed):
        h, c = (v[0] for v in lstm.trace(x, (h0[None], c0[None])))
    found = js(
        RUN,
        {
            "cell": {
                "units": units,
                "inputs": inputs,
                "ih": lstm.weight_ih_l0.flatten().tolist(),
                "hh": lstm.weight_hh_l0.flatten().tolist(),
                "bias": (lstm.bias_ih_l0 + lstm.bias_hh_l0).tolist(),
            },
            "dropouts": {
                "rates": dict(zip(("update", "hidden", "cell"), drop.rates, strict=True)),
                "perStep": dict(zip(("update", "hidden", "cell"), drop.per_step, strict=True)),
            },
            "masked": masked,
            "scaling": drop.scaling,
            "seed": seed,
            "rows": [
                {"x": x[:, b].tolist(), "h0": h0[b].tolist(), "c0": c0[b].tolist()}
                for b in range(rows)
            ],
        },
    )
    theirs = torch.tensor(found).view(rows, 2, steps, units).permute(1, 2, 0, 3)
    for name, a, b in (("h", theirs[0], h), ("c", theirs[1], c)):
        assert ((a - b).abs().max() / b.abs().max().clamp_min(1)) < 1e-5, name


@pytest.fixture(scope="module")
def explorer() -> MemoryExplorer:
    return MemoryExplorer()


def test_sequences_arrive_as_they_were_packed(js, explorer):
    for length in (15, 30, 60):
        x, y = sequences(400, length, torch.Generator().manual_seed(length))
        found = js(
            "([text, n]) => unpackSequences(text, n).map((row) => [row, classOf(row)])",
            [explorer.sequences[str(length)], length],
        )
        assert [row for row, _ in found] == x.T.tolist()
        assert [kind for _, kind in found] == y.tolist()


def test_a_sequence_without_its_two_symbols_has_no_class(js):
    found = [
        js("classOf", ["ABCD".index(s) for s in word])
        for word in ("CCCCCC", "ACDCBC", "ABCCCC", "ACACAC", "CACBCC", "CACACC")
    ]
    assert found == [-1, -1, -1, -1, CLASSES.index("AB"), CLASSES.index("AA")]


@pytest.mark.parametrize("number", range(19))
@pytest.mark.parametrize("masked", [True, False], ids=["masks", "evaluation"])
def test_every_embedded_network_answers_as_in_torch(js, explorer, number: int, masked: bool):
    packed = explorer.networks[number]
    explorer.scheme, explorer.masked = packed["scheme"], masked
    if packed["rate"]:
        explorer.per, explorer.trained, explorer.rate = packed["per"], packed["rate"], 0.4
    ours = explorer.torch()
    site = {"semeniuta": "update", "gal": "hidden", "moon": "cell"}.get(packed["scheme"])
    theirs = js(
        """({ packed, tests, x, site, perStep, masked }) => {
            const network = unpack(packed), key = moduleKey(0);
            const rates = { [site]: site ? 0.4 : 0 }, perSteps = { [site]: perStep };
            const sites = dropout({ rates, perStep: perSteps, masked, scaling: "paper" });
            const trace = run(network, x, sites, key);
            const rows = unpackSequences(tests, 15);
            return {
                states: [...trace.c], probabilities: classProbabilities(network.readout, trace),
                hits: rows.filter((row, i) => isRight(network, row, sites, key, i)).length,
            };
        }""",
        {
            "packed": packed,
            "tests": explorer.sequences["15"],
            "x": ["ABCD".index(s) for s in explorer.sequence],
            "site": site,
            "perStep": packed["per"] == "step",
            "masked": masked,
        },
    )
    states = torch.tensor(theirs["states"], dtype=torch.float64).view(15, -1)
    assert (states - torch.from_numpy(ours["states"])).abs().max() < 1e-9
    gap = torch.tensor(theirs["probabilities"], dtype=torch.float64) - torch.from_numpy(
        ours["probabilities"]
    )
    assert gap.abs().max() < 1e-9
    assert theirs["hits"] == ours["hits"]


@pytest.mark.parametrize("scheme", ["semeniuta", "gal", "moon"])
@pytest.mark.parametrize("scaling", ["paper", "inverted"])
def test_theory_is_what_the_cell_does_in_evaluation(js, scheme: str, scaling: str):
    drop = getattr(RecurrentDropout, scheme)(0.25, scaling=scaling)
    cell = memory.fading(drop, 20, False, updates=0.3, start=0.7)[:, 0]
    setting = {"scheme": scheme, "rate": 0.25, "per": "step", "masked": False, "scaling": scaling}
    line = js("predicted", setting | {"steps": 20, "start": 0.7, "update": 0.3})
    assert torch.allclose(torch.tensor(line, dtype=torch.float64), cell, rtol=1e-9)


@pytest.mark.parametrize("scheme", ["semeniuta", "gal", "moon"])
@pytest.mark.parametrize("scaling", ["paper", "inverted"])
@pytest.mark.parametrize("per", ["step", "sequence"])
def test_theory_is_the_mean_of_what_the_cell_does_under_masks(js, scheme, scaling, per):
    drop = getattr(RecurrentDropout, scheme)(0.25, per=per, scaling=scaling)
    cell = memory.fading(drop, 6, True, updates=0.3, start=0.7, draws=40_000)
    setting = {"scheme": scheme, "rate": 0.25, "per": per, "masked": True, "scaling": scaling}
    line = js("predicted", setting | {"steps": 6, "start": 0.7, "update": 0.3})
    error = 5 * cell.std(1) / 200 + 1e-9
    assert ((torch.tensor(line, dtype=torch.float64) - cell.mean(1)).abs() < error).all()


def test_the_interval_is_wilsons(js):
    low, high = js("wilson(70, 400)")
    assert (round(low, 4), round(high, 4)) == (0.1409, 0.2153)
    assert js("wilson(0, 400)")[0] == 0


def test_packed_weights_are_half_precision(explorer):
    packed = next(n for n in explorer.networks if n["scheme"] == "moon")
    model = networks.unpack(packed, RecurrentDropout())
    assert torch.equal(model.readout.weight, model.readout.weight.half().double())
    assert not model.recurrent.bias_hh_l0.any()
