"""A fit shared out over two devices, and over two processes: the same history as on one device. Without dropout, whose dice differ."""

import csv
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from edge_agent.contract.errors import ConfigError
from trainer.devices import device_for, is_chief

FLAGS = [
    "--epochs",
    "2",
    "--units",
    "3",
    "--batch-size",
    "60",
    "--stride-s",
    "21600",
    "--dropout",
    "0",
    "--clip-norm",
    "0.02",
    "--tracking-uri",
    "off",
]
ON_ONE_AND_ON_TWO_DEVICES = """
import sys
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from trainer.__main__ import main
*words, alone, shared = sys.argv[1:]
sys.exit(main([*words, "--out", alone]) or main([*words, "--out", shared, "--distribute", "mirrored"]))
"""


def words(small_run):
    return ["fit", "--house", str(small_run[0]), "--data", str(small_run[1]), *FLAGS]


def history(run):
    with (run / "history.csv").open() as file:
        return np.array([[float(row[name]) for name in ("loss", "validation_loss")] for row in csv.DictReader(file)])


@pytest.fixture(scope="module")
def on_one_and_on_two(small_run, tmp_path_factory):
    """Run folders of a fit on one device and of the same on two."""
    folder = tmp_path_factory.mktemp("devices")
    runs = folder / "one", folder / "two"
    command = [sys.executable, "-c", ON_ONE_AND_ON_TWO_DEVICES, *words(small_run), *map(str, runs)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return runs


def test_two_devices_learn_what_one_does(on_one_and_on_two):
    one, two = on_one_and_on_two
    learnt = history(one)
    assert not np.allclose(learnt[1], learnt[2])
    np.testing.assert_allclose(history(two), learnt, rtol=1e-4)


def test_what_two_devices_learnt_is_a_run_as_any_other(on_one_and_on_two):
    from export.run_folder import read_run

    records = [json.loads((run / "run.json").read_text()) for run in on_one_and_on_two]
    assert read_run(on_one_and_on_two[1]).outputs == ("quantiles", "mean")
    crps = [record["scores"]["test"]["model"]["crps"] for record in records]
    assert crps[1] == pytest.approx(crps[0], rel=1e-3)


def free_ports(n):
    probes = [socket.socket() for _ in range(n)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.mark.slow
def test_two_machines_learn_what_one_does_and_the_first_keeps_it(on_one_and_on_two, small_run, tmp_path):
    run = tmp_path / "run"
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    command = [sys.executable, "-m", "trainer", *words(small_run), "--out", str(run), "--distribute", "multi-worker"]
    processes = []
    for index in (1, 0):
        environment = os.environ | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    np.testing.assert_allclose(history(run), history(on_one_and_on_two[0]), rtol=1e-4)


def test_a_cluster_that_nobody_names_is_refused(monkeypatch):
    for text in ("", "nonsense", '{"cluster": {"worker": []}, "task": {"index": 0}}'):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(ConfigError, match=r"needs the variable TF_CONFIG on each machine, such as \{"):
            device_for("multi-worker", clip_norm=0.0, mixed_precision=False)


def test_the_first_machine_is_the_chief(monkeypatch):
    for index in (0, 1):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": index}}))
        assert is_chief("multi-worker") is (index == 0)
    assert is_chief("mirrored")
    assert is_chief(None)


def test_mixed_precision_is_refused():
    with pytest.raises(ConfigError, match="leave one of them out"):
        device_for("mirrored", clip_norm=0.0, mixed_precision=True)
