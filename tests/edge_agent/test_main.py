"""The command line, and the whole agent as a process of its own on a real Mosquitto."""

import contextlib
import gzip
import json
import math
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime

import paho.mqtt.client as paho
import pytest

from edge_agent.__main__ import main

START = 1_780_264_800  # 2026-06-01 00:00 in Berlin
HOUSE = """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "Appliances"}]
sensors = [
  {name = "Appliances", role = "energy", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh"},
  {name = "T1", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature"},
]
"""


@pytest.fixture
def house(tmp_path):
    path = tmp_path / "house.toml"
    path.write_text(HOUSE)
    return path


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test looks into the home of who runs it."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def test_on_the_gateway_commands_find_the_services_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("edge_agent.commands.SERVICE", tmp_path / "etc")
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 2
    assert f"no house.toml lies in {tmp_path} or {tmp_path / 'etc'}: give its path with --house" in capsys.readouterr().err
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "house.toml").write_text(HOUSE)
    (tmp_path / "etc" / "agent.toml").write_text('state_dir = "state"')
    assert main(["report"]) == 1
    assert f"{tmp_path / 'etc' / 'state' / 'history.db'}: there is no history yet" in capsys.readouterr().err
    (tmp_path / "house.toml").write_text(HOUSE)  # a house of one's own has nothing to do with the service
    assert main(["report"]) == 1
    assert str(tmp_path / "xdg_state_home") in capsys.readouterr().err


@pytest.fixture
def agent():
    """Starts agents as processes; `agent(arguments…)`; ends what is left of them."""
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            command = [sys.executable, "-m", "edge_agent", *map(str, arguments)]
            process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            return process

        yield start


class Controller:
    """Listens to the agent and publishes as Zigbee2MQTT would."""

    def __init__(self, port):
        self.latest, self.count = {}, 0
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = self.on_message
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("hearthcast/#", qos=1)
        self.client.loop_start()
        assert ready.wait(20)

    def on_message(self, _client, _data, message):
        text = message.payload.decode()
        self.count += message.topic == "hearthcast/home/forecast/energy"
        self.latest[message.topic.removeprefix("hearthcast/home/")] = json.loads(text) if text.startswith("{") else text

    def say(self, topic, unix_s, **fields):
        payload = json.dumps({**fields, "last_seen": datetime.fromtimestamp(unix_s, UTC).isoformat()})
        self.client.publish(f"zigbee2mqtt/{topic}", payload, qos=1).wait_for_publish(20)

    def say_hours(self, first, last):
        """A house that uses 100 Wh an hour by night and up to 300 by day, and is about 20 degC warm."""
        used = sum(self.use(hour) for hour in range(first))
        for hour in range(first, last + 1):
            self.say("meter", START + 3600 * hour, energy=500 + used / 1000)
            self.say("room", START + 3600 * hour, temperature=20.0 + hour % 2 / 10)
            used += self.use(hour)

    @staticmethod
    def use(hour):
        return 200 - 100 * round(math.cos(2 * math.pi * (hour % 24) / 24), 6)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def controller(broker, paho_garbage):
    controller = Controller(broker.port)
    yield controller
    controller.close()


@pytest.mark.broker
def test_days_replayed_through_a_broker_become_a_forecast(broker, controller, agent, house, tmp_path, tiny_bundle, eventually, capsys):
    trusted = tmp_path / "xdg_config_home" / "hearthcast" / "trusted"
    trusted.mkdir(parents=True)
    shutil.copy(tiny_bundle.with_suffix(".pub"), trusted)
    where = ("--house", house, "--state-dir", tmp_path / "state")
    process = agent("run", *where, "--broker", f"127.0.0.1:{broker.port}", "--bundle", tiny_bundle, "--replay-clock")
    eventually(lambda: controller.latest.get("status") == "online")
    controller.say_hours(0, 24 * 9)
    last = datetime.fromtimestamp(START + 3600 * (24 * 9 - 1), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    eventually(lambda: controller.latest.get("forecast/energy", {}).get("origin") == last)

    forecast = controller.latest["forecast/energy"]
    assert controller.count == 24 * 9 - 1
    assert (forecast["schema"], forecast["grade"], forecast["model"]["name"], forecast["unit"]) == (1, "full", "tiny", "Wh")
    assert [point["time"] for point in forecast["forecast"][:2]] == ["2026-06-09T23:00:00+02:00", "2026-06-10T00:00:00+02:00"]
    assert len(forecast["forecast"]) == 24
    assert forecast["totals"]["tomorrow"]["date"] == "2026-06-10"
    assert controller.latest["model"]["models"]["energy"]["signer"].endswith("tiny.pub")
    eventually(lambda: controller.latest["health"]["last_step"] == last)
    assert controller.latest["health"]["problems"] == []

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    eventually(lambda: controller.latest["status"] == "stopped")

    assert main(["report", *map(str, where), "--days", "3"]) == 0
    report = capsys.readouterr().out
    assert "2026-06-08" in report
    assert "actual     4.80" in report
    assert main(["history", "export", *map(str, where), "--out", str(tmp_path / "history.csv")]) == 0
    table = (tmp_path / "history.csv").read_text().splitlines()
    assert table[0] == "time,Appliances,T1"
    assert table[1] == "2026-05-31T22:00:00Z,100,20"
    assert len(table) == 1 + 24 * 9 - 1


def saved_until(path):
    """Start of the last step on the disk of a running agent."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        row = db.execute("SELECT value FROM state WHERE key = 'last_closed'").fetchone()
    return None if row is None else int(row[0])


@pytest.mark.broker
def test_a_killed_agent_is_offline_and_goes_on_afterwards(broker, controller, agent, house, tmp_path, eventually):
    arguments = ("run", "--house", house, "--state-dir", tmp_path / "state", "--broker", f"127.0.0.1:{broker.port}", "--replay-clock")
    first = agent(*arguments)
    eventually(lambda: controller.latest.get("status") == "online")
    controller.say_hours(0, 30)
    eventually(lambda: saved_until(tmp_path / "state" / "history.db") == START + 3600 * 28)
    first.kill()
    first.wait()
    eventually(lambda: controller.latest["status"] == "offline")
    agent(*arguments)
    eventually(lambda: controller.latest["status"] == "online")
    controller.say_hours(30, 34)
    last = datetime.fromtimestamp(START + 3600 * 33, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    eventually(lambda: controller.latest["forecast/energy"]["origin"] == last)
    # the day before, which only the first agent saw
    values = [point["value"] for point in controller.latest["forecast/energy"]["forecast"]]
    assert values == pytest.approx([controller.use(hour) for hour in range(33, 57)], abs=30)


SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.e+-]+$')


def scrape(path):
    """The agent's metrics, by everything before the number."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        text = b"".join(iter(lambda: client.recv(65_536), b"")).decode().partition("\r\n\r\n")[2]
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in samples if not SAMPLE.match(line)] == []
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in samples}


@pytest.mark.broker
def test_a_day_and_ten_thousand_bad_messages_are_counted_and_take_a_few_lines_of_log(broker, controller, agent, house, tmp_path, eventually):
    (tmp_path / "agent.toml").write_text('log_form = "json"\n[metrics]\nsocket = "metrics.sock"\n')
    where = ("--house", house, "--state-dir", tmp_path / "state", "--config", tmp_path / "agent.toml")
    process = agent("run", *where, "--broker", f"127.0.0.1:{broker.port}", "--replay-clock")
    eventually(lambda: controller.latest.get("status") == "online")
    controller.say_hours(0, 25)
    eventually(lambda: controller.count == 24)
    eventually(lambda: scrape(tmp_path / "metrics.sock")["hearthcast_steps_closed_total"] == 24)  # counted after the forecast went out
    metrics = scrape(tmp_path / "metrics.sock")
    assert metrics["hearthcast_mqtt_messages_received_total"] == 52
    assert metrics["hearthcast_mqtt_connected"] == 1
    assert metrics['hearthcast_forecast_grade{target="energy",grade="baseline"}'] == 1
    assert metrics['hearthcast_forecast_duration_seconds_count{target="energy"}'] == 24
    assert 10e6 < metrics["process_resident_memory_bytes"] < 200e6

    for i in range(10_000):
        controller.client.publish("zigbee2mqtt/room", ("nonsense", '{"temperature": "hot"}', b"\xff", '{"temperature": 1e308}')[i % 4])
    controller.say("meter", START + 3600 * 27, energy=600)
    eventually(lambda: controller.latest["health"]["messages"] == 10_053)
    rejected = {key: n for key, n in scrape(tmp_path / "metrics.sock").items() if key.startswith("hearthcast_values_rejected_total")}
    assert rejected['hearthcast_values_rejected_total{reason="not UTF-8"}'] == 2_500
    assert sum(rejected.values()) >= 10_000

    process.send_signal(signal.SIGTERM)
    log = [json.loads(line) for line in process.communicate(timeout=20)[1].splitlines()]
    texts = [line["message"] for line in log]
    assert texts[0].startswith("ready: ")
    assert texts[1] == "2026-06-01 is over"
    assert (log[1]["messages"], log[1]["steps"], log[1]["forecasts"], log[1]["rejected"]) == (51, 24, 24, 0)
    assert sum(line["values"] for line in log if line["message"].startswith("not usable: ")) >= 10_000
    assert len(log) < 10
    assert not (tmp_path / "metrics.sock").exists()


@pytest.mark.broker
def test_the_doctor_tells_what_delivers(broker, controller, house, tmp_path, capsys):
    talking = threading.Event()

    def talk():
        while not talking.wait(0.05):
            controller.say("meter", START, energy=1.5)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        arguments = ["--house", str(house), "--state-dir", str(tmp_path / "state"), "--broker", f"127.0.0.1:{broker.port}", "--seconds", "2"]
        assert main(["doctor", *arguments]) == 0
    finally:
        talking.set()
        thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"connected to 127.0.0.1:{broker.port} (MQTT 5)")
    assert lines[1].split()[:3] == ["Appliances", "1500", "Wh,"]
    assert lines[-1].startswith("1 of 2 sensors delivered, 1 problems")


@pytest.mark.broker
def test_the_doctor_listens_until_the_weather_has_come_too(broker, controller, house, tmp_path, capsys):
    house.write_text(HOUSE + '\n[[weather]]\nrole = "wind_speed"\ntopic = "weather"\nfield = "wind"\n')
    told = threading.Event()

    def talk():
        for _ in range(20):
            controller.say("meter", START, energy=1.5)
            controller.say("room", START, temperature=20)
            told.wait(0.05)
        controller.client.publish("weather", json.dumps({"time": [START], "wind": [3]}), qos=1)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        assert main(["doctor", "--house", str(house), "--state-dir", str(tmp_path), "--broker", f"127.0.0.1:{broker.port}", "--seconds", "20"]) == 0
    finally:
        thread.join()
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 of 2 sensors delivered, 0 problems")


def failing(capsys, *arguments):
    """Exit code and error text of a command that must fail."""
    return main([str(argument) for argument in arguments]), capsys.readouterr().err


def test_a_refused_bundle_is_named(capsys, house, tiny_bundle, tmp_path):
    code, error = failing(capsys, "run", "--house", house, "--bundle", tiny_bundle, "--state-dir", tmp_path)
    assert code == 1
    assert error.startswith(f"error: {tiny_bundle} is signed by a key that this machine does not trust")


def test_a_house_without_topics_cannot_run(capsys, house):
    house.write_text(HOUSE.replace('topic = "zigbee2mqtt/meter", field = "energy", topic_unit', 'column = "a", unit').replace("topic =", "column ="))
    text = house.read_text().replace(', field = "temperature"', "")
    house.write_text(text)
    code, error = failing(capsys, "run", "--house", house)
    assert (code, "no sensor has a 'topic'" in error) == (2, True)


def test_mistakes_in_files_and_flags_have_exit_code_2(capsys, house, tmp_path):
    (tmp_path / "agent.toml").write_text("brokr = 1\n")
    assert failing(capsys, "run", "--house", house, "--config", tmp_path / "agent.toml")[0] == 2
    assert failing(capsys, "run", "--house", tmp_path / "none.toml")[0] == 2
    assert failing(capsys, "run", "--house", house, "--broker", "a b")[0] == 2
    with pytest.raises(SystemExit) as caught:
        main(["rune"])
    assert caught.value.code == 2


def test_there_is_nothing_to_report_before_the_first_run(capsys, house, tmp_path):
    code, error = failing(capsys, "report", "--house", house, "--state-dir", tmp_path / "none")
    assert code == 1
    assert "there is no history yet" in error
    assert not (tmp_path / "none").exists()


def test_a_history_goes_out_and_comes_in_again(capsys, house, tmp_path):
    table = tmp_path / "table.csv.gz"
    table.write_bytes(gzip.compress(b"time,Appliances,T1\n2026-06-01T00:00:00Z,120,20.5\n2026-06-01T01:00:00Z,80,\n"))
    where = ["--house", str(house), "--state-dir", str(tmp_path / "state")]
    assert main(["history", "import", *where, str(table)]) == 0
    assert capsys.readouterr().out.startswith("3 values stored; 0 of the table's 3 were known already")
    assert main(["history", "export", *where, "--out", str(tmp_path / "again.csv.gz")]) == 0
    assert gzip.decompress(table.read_bytes()).decode() == gzip.decompress((tmp_path / "again.csv.gz").read_bytes()).decode().replace("\r", "")
    capsys.readouterr()
    assert main(["backup", *where, str(tmp_path)]) == 0
    assert "checked; to go back to it, stop the agent" in capsys.readouterr().out
    (copy,) = tmp_path.glob("history-*.db")
    assert main(["restore", *where, str(copy)]) == 0
    assert "start the agent again" in capsys.readouterr().out


def test_a_table_that_is_none_is_refused(capsys, house, tmp_path):
    (tmp_path / "no.csv.gz").write_text("no gzip")
    assert failing(capsys, "history", "import", "--house", house, "--state-dir", tmp_path, tmp_path / "no.csv.gz")[0] == 1
    assert failing(capsys, "history", "import", "--house", house, "--state-dir", tmp_path, tmp_path / "none.csv")[0] == 2
    assert failing(capsys, "backup", "--house", house, "--state-dir", tmp_path / "none", tmp_path)[0] == 1


def test_keys_are_made_trusted_and_shown(capsys, tmp_path):
    assert main(["keys", "show"]) == 0
    assert "no key is trusted" in capsys.readouterr().out
    assert main(["keys", "new", str(tmp_path / "mine.key")]) == 0
    public = capsys.readouterr().out.strip()
    assert main(["keys", "trust", str(tmp_path / "mine.pub")]) == 0
    assert capsys.readouterr().out == f"trusted: {tmp_path}/xdg_config_home/hearthcast/trusted/mine.pub\n"
    assert main(["keys", "show"]) == 0
    assert capsys.readouterr().out.startswith(public)


def test_no_heavy_library_is_loaded_to_run():
    heavy = {"pandas", "tensorflow", "keras", "mlflow", "onnx", "rich"}
    code = f"import sys, edge_agent.__main__, edge_agent.commands, edge_agent.service; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_user_without_a_home_trusts_the_systems_keys(monkeypatch, tmp_path):
    from edge_agent.contract import signing

    def no_home():
        raise RuntimeError("Could not determine home directory.")  # as pathlib says under systemd's DynamicUser

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr("pathlib.Path.home", no_home)
    monkeypatch.setattr(signing, "SYSTEM_KEYS", tmp_path)
    assert signing.trusted_folders() == (tmp_path,)
    assert signing.trusted_keys() == {}


def test_running_a_model_leaves_no_trace_and_reports_to_nobody(tmp_path, tiny_bundle):
    """onnxruntime's own wheels report use to their maker unless told not to; the trace is a device id below the home folder."""
    code = (
        "import pathlib, sys; from edge_agent.forecaster import Model; from edge_agent.contract.bundle import read_bundle;"
        "Model(read_bundle(pathlib.Path(sys.argv[1]), allow_unsigned=True)).check_golden()"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code, str(tiny_bundle)], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
