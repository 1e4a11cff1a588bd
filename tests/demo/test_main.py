import json
import os
import signal
import subprocess
import sys

import pytest

from demo.__main__ import main


def test_house_without_data_is_a_bad_argument(tmp_path, capsys):
    assert main(["--house", "house.toml", "--out", str(tmp_path / "out")]) == 2
    assert "--house describes the house of --data" in capsys.readouterr().err


def test_broker_that_is_not_there_is_found_before_minutes_of_training(tmp_path, capsys):
    assert main(["--broker", "127.0.0.1:1", "--out", str(tmp_path / "out")]) == 1
    assert "no broker answers at 127.0.0.1:1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_broker_without_an_address_is_a_bad_argument(tmp_path, capsys):
    assert main(["--broker", "127.0.0.1:port", "--out", str(tmp_path / "out")]) == 2
    assert "HOST:PORT" in capsys.readouterr().err


def test_part_that_fails_is_named(tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text("date,nonsense\n2026-01-01 00:00:00,1\n")
    assert main(["--data", str(table), "--out", str(tmp_path / "out")]) == 1
    assert "part 1 of 6 (the house) failed" in capsys.readouterr().err


@pytest.mark.slow
def test_quick_demo_leaves_forecast_picture_and_scores(tmp_path):
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-m", "demo", "--quick", "--out", out], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (out / "forecast.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "forecast.json").read_text())["origin"] == "2026-07-11T22:00:00Z"
    assert json.loads((out / "scores.json").read_text())["origins"] == 72
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # everything lies under --out


@pytest.mark.slow
def test_kept_demo_leaves_broker_and_agent_running_until_they_are_ended(tmp_path):
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-m", "demo", "--quick", "--keep", "--out", out], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pids = [int(pid) for pid in (out / "running.txt").read_text().split()]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)  # fails when it does not run
    assert len(pids) == 2
    assert f"agent and broker go on running until  kill {pids[0]} {pids[1]}" in done.stdout
