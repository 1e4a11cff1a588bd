import pytest

from edge_agent.contract.errors import ConfigError
from trainer.presets import SEED, HyperParameters
from trainer.search_space import SPACE, Choice, Range, draw, parse_search, space_for


class Lowest:
    """Draws the lowest of a range and the first of some values, and remembers how it was asked."""

    def __init__(self):
        self.logs = {}

    def suggest_int(self, name, low, high, *, log):
        self.logs[name] = log
        return low

    suggest_float = suggest_int

    def suggest_categorical(self, name, choices):
        return choices[0]


def test_ranges_and_values_are_read_from_words():
    words = ["units=16:64", "learning-rate=1e-4:1e-2", "schedule=cosine,constant", "jit=true,false", "batch_size=32,64"]
    assert parse_search(words) == {
        "units": Range(16, 64),
        "learning_rate": Range(1e-4, 1e-2),
        "schedule": Choice(("cosine", "constant")),
        "jit": Choice((True, False)),
        "batch_size": Choice((32, 64)),
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("unit=1:2", "did you mean 'units'?"),
        ("units", "units=LOW:HIGH"),
        ("units=8", "units=LOW:HIGH"),
        ("units=64:8", "units=LOW:HIGH"),
        ("units=a:b", "units=LOW:HIGH"),
        ("units=1.5:3", "units=LOW:HIGH"),
        ("schedule=cosine:constant", "schedule=LOW:HIGH"),
        ("jit=yes,no", "jit=LOW:HIGH"),
        ("dropout=0.1:1.0", "--dropout 1.0"),
        ("learning_rate=1e-4:inf", "--learning-rate inf"),
        ("schedule=cosine,sine", "--schedule 'sine'"),
        ("mean_weight=0:1", "cannot be searched; give --mean-weight"),
        ("l2=0,0.1", "cannot be searched; give --l2"),
        ("members=1,3", "cannot be searched; give --members"),
        ("stride_s=600,1800", "cannot be searched; give --stride-s"),
    ],
)
def test_what_cannot_be_searched_is_refused(word, said):
    with pytest.raises(ConfigError, match=said):
        parse_search([word])


def test_what_is_given_by_its_flag_is_not_searched():
    space = space_for(HyperParameters(units=16), ["units"], {"dropout": Range(0.1, 0.2)})
    assert set(space) == set(SPACE) - {"units"}
    assert space["dropout"] == Range(0.1, 0.2)


def test_given_and_asked_for_at_once_is_refused():
    with pytest.raises(ConfigError, match="--search units and --units"):
        space_for(HyperParameters(), ["units"], {"units": Range(8, 16)})


def test_plain_adam_stays_plain_adam():
    assert "weight_decay" not in space_for(SEED, [], {})
    assert "weight_decay" in space_for(HyperParameters(), [], {})


def test_nothing_to_search_is_refused():
    with pytest.raises(ConfigError, match="nothing is left to search"):
        space_for(HyperParameters(), list(SPACE), {})


def test_the_presets_own_values_lie_in_the_usual_space():
    assert all(getattr(HyperParameters(), name) in part for name, part in SPACE.items())


def test_wide_ranges_are_drawn_by_orders_of_magnitude():
    trial = Lowest()
    space = {"units": Range(8, 128), "dropout": Range(0.0, 0.6), "leaky_slope": Range(0.1, 0.5), "schedule": Choice(("cosine", "constant"))}
    assert draw(space, trial) == {"units": 8, "dropout": 0.0, "leaky_slope": 0.1, "schedule": "cosine"}
    assert trial.logs == {"units": True, "dropout": False, "leaky_slope": False}
