import json
import math
import subprocess
import sys

import numpy as np
import pytest

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.schema import Feature
from edge_agent.contract.series import Series
from export.run_folder import read_run
from trainer.loop import Epoch
from trainer.run_folder import RunFolder, write_json
from trainer.windows import Windows

STARTED = {"preset": "base", "seed": 0, "hyper_parameters": {"units": 4}}
HOUR = 3600


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(STARTED, resume=False)
    return folder


@pytest.mark.parametrize("kept", ["state.npz", "state_0.npz", "../run.json"])
def test_a_folder_that_holds_a_run_is_not_taken_for_another(folder, kept):
    (folder.state.parent / kept).touch()
    with pytest.raises(ConfigError, match="holds a run already: go on with it by --resume"):
        folder.start(STARTED, resume=False)


def test_a_run_that_failed_before_it_learnt_anything_does_not_block_the_next(folder):
    folder.start({**STARTED, "seed": 1}, resume=False)
    folder.start({**STARTED, "seed": 1}, resume=True)


def test_a_folder_in_which_another_process_is_at_work_is_left_alone(tmp_path):
    begin = "import pathlib, sys; from trainer.run_folder import RunFolder; f = RunFolder(pathlib.Path(sys.argv[1])); f.start({}, resume=False)"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{begin}; print('there', flush=True); input()", tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "there\n"
        with pytest.raises(ConfigError, match="another run is at work here"):
            RunFolder(tmp_path / "run").start(STARTED, resume=False)
        assert json.loads((tmp_path / "run" / "checkpoint" / "started.json").read_text()) == {}
        other.communicate("")
    RunFolder(tmp_path / "run").start(STARTED, resume=False)


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path):
    with pytest.raises(ConfigError, match="no run to resume"):
        RunFolder(tmp_path).start(STARTED, resume=True)


def test_a_run_is_not_resumed_with_other_flags(folder):
    with pytest.raises(ConfigError) as refused:
        folder.start({**STARTED, "hyper_parameters": {"units": 5}}, resume=True)
    assert "started differently: hyper_parameters.units was 4 and is now 5; start it without --resume" in str(refused.value)


def test_a_damaged_run_is_not_resumed(folder):
    started = folder.path / "checkpoint" / "started.json"
    started.write_text(started.read_text()[:20])
    with pytest.raises(ConfigError, match=r"started.json is damaged .*: start anew in another folder"):
        folder.start(STARTED, resume=True)


def test_a_finished_run_is_not_resumed(folder):
    folder.write_record({"status": "finished"})
    with pytest.raises(ConfigError, match="finished run"):
        folder.start(STARTED, resume=True)


def test_an_interrupted_run_looks_unfinished_as_soon_as_it_is_resumed(folder):
    folder.write_record({"status": "interrupted"})
    folder.start(STARTED, resume=True)
    assert not (folder.path / "run.json").exists()


def test_json_knows_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1.5, math.nan], "b": {"c": math.inf}, "d": (1, 2)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None], "b": {"c": None}, "d": [1, 2]}


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_the_history_has_a_row_per_epoch(folder):
    folder.write_history([Epoch(0, math.nan, 0.5, 0.002, 0.0, 0.0), Epoch(1, 0.4, 0.3, 0.001, 900.0, 2.5)])
    lines = (folder.path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,validation_loss,learning_rate,samples_per_s,seconds"
    assert lines[2] == "1,0.4,0.3,0.001,900.0,2.5"


@pytest.mark.parametrize("preset", ["seed", "base"])
def test_the_samples_alone_give_the_inputs_that_the_whole_history_gives(folder, small_house, small_builder, preset):
    builder = small_builder(preset)
    windows = Windows(builder, builder.series.start + HOUR * np.arange(70 * 24, 71 * 24, 6))
    folder.write_samples(windows, small_house, "meter")
    with np.load(folder.path / "samples.npz") as saved:
        features = tuple(Feature(str(name), str(role)) for name, role in saved["features_0"])
        stretch = Series(*(int(v) for v in saved["grid_0"]), features, saved["values_0"])
        origins = saved["origins_0"]
    assert stretch.names == builder.plan.sensors(small_house)
    alone = FeatureBuilder(builder.plan, stretch, target="meter", zone=small_house.zone).inputs(origins).arrays
    for name, values in windows.inputs(np.arange(len(windows))).arrays.items():
        np.testing.assert_allclose(alone[name], values, rtol=1e-5)


def test_at_most_64_windows_are_left_as_samples(folder, small_house, small_builder):
    builder = small_builder("seed")
    folder.write_samples(Windows(builder, builder.series.start + HOUR * np.arange(200, 400)), small_house, "meter")
    with np.load(folder.path / "samples.npz") as saved:
        origins = saved["origins_0"]
    assert len(origins) == 64
    assert [int(origins[0]), int(origins[-1])] == [builder.series.start + HOUR * 200, builder.series.start + HOUR * 399]


def test_a_folder_without_a_record_is_no_run_for_the_exporter(folder):
    with pytest.raises(Exception, match="not finished"):
        read_run(folder.path)
