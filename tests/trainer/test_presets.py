import math

import pytest

from edge_agent.contract.errors import ConfigError
from trainer.presets import hyper_parameters, plan_for


def test_seed_reads_all_28_columns_of_the_reference_house_as_they_are(reference_house):
    plan = plan_for("seed", reference_house, "energy")
    assert plan.input_shapes() == {"context": (864, 28)}
    assert plan.horizon == 144
    assert plan.context[0] == f"sensor:{reference_house.sensors[0].name}"


def test_seed_is_trained_as_the_article_says():
    hyper = hyper_parameters("seed", {})
    assert (hyper.units, hyper.dropout, hyper.learning_rate, hyper.patience, hyper.min_delta) == (128, 0.1, 0.00144, 50, 1e-5)
    assert (hyper.weight_decay, hyper.l2, hyper.schedule) == (0.0, 0.0, "constant")


def test_base_reads_seven_days_of_hours_and_the_last_56_days_whatever_the_step(small_house):
    plan = plan_for("base", small_house, "energy")
    assert (plan.context_step_s, plan.context_length, plan.daily_length) == (3600, 168, 56)
    assert (plan.step_s, plan.horizon) == (3600, 24)


def test_covariates_become_role_channels(small_house):
    assert plan_for("base", small_house, "energy", ("outdoor_temperature",)).context[-1] == "role:outdoor_temperature"


def test_a_flag_overrides_the_preset_and_none_does_not():
    hyper = hyper_parameters("seed", {"units": 16, "dropout": None})
    assert (hyper.units, hyper.dropout) == (16, 0.1)


def test_covariates_are_refused_for_seed(small_house):
    with pytest.raises(ConfigError, match="reads every sensor"):
        plan_for("seed", small_house, "energy", ("outdoor_temperature",))


def test_a_misspelt_covariate_names_the_closest(small_house):
    with pytest.raises(ConfigError, match="'outdoor_temperature'"):
        plan_for("base", small_house, "energy", ("outdor_temperature",))


def test_a_preset_that_cannot_be_had_is_refused():
    with pytest.raises(ConfigError, match="'base'"):
        hyper_parameters("bsae", {})


def test_fine_tuning_does_not_change_what_lies_in_the_base():
    assert hyper_parameters("finetune", {"epochs": 3}).epochs == 3
    with pytest.raises(ConfigError, match="--dropout is decided by the model"):
        hyper_parameters("finetune", {"dropout": 0.1})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("epochs", 0, "--epochs 0"), ("dropout", 1.0, "--dropout 1.0"), ("l2", -1.0, "--l2 -1.0"), ("schedule", "cosin", "'cosine'")]
    + [(name, value, "is expected") for name in ("learning_rate", "dropout", "l2", "leaky_slope") for value in (math.nan, math.inf)],
)
def test_values_out_of_range_are_refused(name, value, said):
    with pytest.raises(ConfigError, match=said):
        hyper_parameters("base", {name: value})
