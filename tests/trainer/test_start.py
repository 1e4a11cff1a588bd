"""Where fine-tuning starts from: bundles and runs that can be trained on, and what is said of those that cannot."""

import json
import shutil

import numpy as np
import pytest

from edge_agent.contract.errors import BundleError, ConfigError, SignatureError
from edge_agent.contract.schema import parse_house
from export.assemble import export_run
from trainer.__main__ import main
from trainer.start import network_of, read_start

TINY = ["--epochs", "1", "--units", "3", "--batch-size", "64", "--stride-s", "21600", "--tracking-uri", "off"]


def trained(small_run, out, *preset):
    house, data = small_run
    assert main(["fit", "--house", str(house), "--data", str(data), "--out", str(out), "--preset", *preset, *TINY]) == 0
    return out


@pytest.fixture(scope="module")
def run(small_run, tmp_path_factory):
    return trained(small_run, tmp_path_factory.mktemp("start") / "run", "base")


@pytest.fixture(scope="module")
def bundle(run):
    export_run(run, run.parent / "bundle", sign_key=None, even_if_worse=True)
    return run.parent / "bundle"


def test_a_run_and_its_bundle_give_the_same_model(run, bundle, small_builder):
    of_run, of_bundle = read_start(run), read_start(bundle, allow_unsigned=True)
    builder = small_builder("base")
    inputs = builder.inputs(np.array([builder.series.end - 86_400])).arrays
    for ours, theirs in zip(of_run.model.predict_on_batch(inputs), of_bundle.model.predict_on_batch(inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert of_run.plan == of_bundle.plan
    np.testing.assert_array_equal(of_run.calibration.read_levels, of_bundle.calibration.read_levels)
    assert of_bundle.version
    assert (
        of_run.looked_at_until
        == of_bundle.looked_at_until
        == {"small:energy": pytest.approx(builder.series.start + 0.8 * 80 * 86_400, abs=2 * 86_400)}
    )


def test_an_archive_is_as_good_as_a_folder(run, tmp_path):
    export_run(run, tmp_path / "bundle.tar", sign_key=None, even_if_worse=True)
    assert read_start(tmp_path / "bundle.tar", allow_unsigned=True).name == "base-small"


def test_unsigned_bundles_need_leave(bundle):
    with pytest.raises(SignatureError, match="--allow-unsigned"):
        read_start(bundle)


def test_a_bundle_without_weights_says_what_to_do(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "old")
    (tmp_path / "old" / "model.keras").unlink()
    with pytest.raises(BundleError, match=r"model\.keras is missing"):
        read_start(tmp_path / "old", allow_unsigned=True)


def test_a_bundle_of_an_earlier_version_says_what_to_do(tiny_bundle):
    with pytest.raises(ConfigError, match=r"holds no model\.keras.*export it again with this version, or give its run folder"):
        read_start(tiny_bundle, allow_unsigned=True)


@pytest.fixture
def tiny_bundle():
    from pathlib import Path

    path = Path(__file__).parents[1] / "fixtures" / "tiny"
    if "model.keras" in json.loads((path / "manifest.json").read_text())["files"]:
        pytest.skip("the fixture was made anew and holds the weights")
    return path


def test_what_is_no_model_is_refused(tmp_path, run):
    with pytest.raises(ConfigError, match="no such bundle or run"):
        read_start(tmp_path / "gone")
    shutil.copytree(run, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "model.keras").unlink()
    with pytest.raises(ConfigError, match=r"model\.keras is missing"):
        read_start(tmp_path / "unfinished")
    (tmp_path / "unfinished" / "model.keras").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match="Keras cannot load"):
        read_start(tmp_path / "unfinished")
    for damage in ({"plan": None}, {"training": None}):
        (tmp_path / "unfinished" / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), **damage}))
        with pytest.raises(ConfigError, match="not of the expected form"):
            read_start(tmp_path / "unfinished")


def test_a_model_of_one_house_and_its_sensors_is_refused(small_run, tmp_path):
    with pytest.raises(ConfigError, match="a model of preset base is expected"):
        read_start(trained(small_run, tmp_path / "run", "seed"))


def test_it_must_forecast_what_the_house_asks_for(run, small_house):
    start = read_start(run)
    assert start.plan_in(small_house, "energy") == start.plan
    with pytest.raises(ConfigError, match=r"forecasts energy, target 'living_room' of 'small' is indoor_temperature"):
        start.plan_in(small_house, "living_room")


def test_the_plan_takes_the_houses_step_and_name_of_the_target(run, small_run):
    text = small_run[0].read_text().replace("step = 3600", "step = 600").replace('name = "energy", sensor', 'name = "mains", sensor')
    plan = read_start(run).plan_in(parse_house(text, source="house.toml"), "mains")
    assert (plan.target, plan.step_s, plan.horizon) == ("mains", 600, 144)


def test_the_network_to_train_puts_out_shares_of_the_houses_mean(run, small_builder):
    start = read_start(run)
    network = network_of(start, mean_weight=0.05, total_weight=0.3)
    builder = small_builder("base")
    inputs = builder.inputs(np.arange(builder.series.end - 5 * 86_400, builder.series.end - 86_400, 86_400)).arrays
    quantiles, mean = start.model.predict_on_batch(inputs)
    relative = network.core.predict_on_batch(inputs)
    np.testing.assert_allclose(relative[..., :-1] * inputs["scale"][:, :, None], quantiles, rtol=1e-5)
    np.testing.assert_allclose(network.relative(inputs, mean), relative[..., -1], rtol=1e-5)
