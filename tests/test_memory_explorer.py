"""The explorer's Python side: settings, conditions, and what torch answers. The page's side is in
tests/browser."""

import numpy as np
import pytest
import traitlets

from recdrop.widgets import MemoryExplorer
from recdrop.widgets.explorer import SETTINGS


@pytest.fixture(name="explorer")
def _explorer() -> MemoryExplorer:
    return MemoryExplorer()


def asked(explorer: MemoryExplorer, **changes) -> list[tuple]:
    """Ask as a page does whose settings have these changes; what is answered, now and later."""
    answers = []
    explorer.send = lambda content, buffers: answers.append((content, buffers))
    settings = {name: getattr(explorer, name) for name in SETTINGS} | changes
    explorer._asked(explorer, {"ask": "torch", "key": "k", "settings": settings}, [])
    return answers


def test_torch_answers(explorer):
    ((content, buffers),) = asked(explorer)
    assert content["key"] == "k"
    assert 0 <= content["hits"] <= content["n"] == 400
    probabilities = np.frombuffer(buffers[1]).reshape(-1, 4)
    assert np.allclose(probabilities.sum(1), 1)
    assert len(probabilities) == explorer.length


def test_a_question_waits_for_the_settings_it_is_about(explorer):
    """A message may overtake them; answered at once it would be about the network before."""
    answers = asked(explorer, scheme="gal", rate=0.25)
    assert answers == []
    explorer.scheme = "gal"
    assert answers == []
    explorer.rate = 0.25
    assert len(answers) == 1
    assert answers[0][0]["hits"] == explorer.torch()["hits"]
    explorer.rate = 0.3
    assert len(answers) == 1, "it has been answered"


def test_other_messages_are_none_of_ours(explorer):
    explorer._asked(explorer, {"event": "something"}, [])
    assert explorer._question is None


def test_the_condition_follows(explorer):
    seen = []
    explorer.observe(lambda change: seen.append(change["new"].rate), "condition")
    explorer.rate = 0.25
    explorer.scheme = "none"
    assert seen == [0.25, 0.0]
    assert not explorer.condition.recurrent_dropout.active


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scheme", "mine", "scheme"),
        ("rate", 1.5, "rate=1.5 is outside"),
        ("sequence", "ABX", "sequence='ABX' is not one of"),
        ("trained", 0.3, "trained"),
        ("length", 16, "length"),
    ],
)
def test_a_value_that_cannot_be_is_refused(explorer, name: str, value: object, message: str):
    before = getattr(explorer, name)
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_results_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="train the explorer's networks there"):
        MemoryExplorer(tmp_path)


def test_a_given_sequence_is_kept_and_tells_the_length():
    letters = "ACBD" + 26 * "C"
    explorer = MemoryExplorer(sequence=letters)
    assert (explorer.sequence, explorer.length) == (letters, 30)
    assert len(MemoryExplorer(length=60).sequence) == 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 31}, "length"),
        ({"sequence": "AB"}, "sequence='AB' is not one of"),
        ({"sequence": 30 * "C", "length": 15}, "30 symbols and length=15; leave one of them out"),
    ],
)
def test_a_first_value_that_cannot_be_is_refused(settings: dict, message: str):
    with pytest.raises(traitlets.TraitError, match=message):
        MemoryExplorer(**settings)
