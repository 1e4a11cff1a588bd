"""agent.toml and the flags on top of it."""

from datetime import time
from pathlib import Path

import pytest

from edge_agent.config import HistoryLimits, host_and_port, read_settings
from edge_agent.contract.errors import ConfigError


def read(tmp_path, text, flags=None, environment=None):
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return read_settings(path, flags=flags, environment=environment or {"HOME": "/home/me"})


@pytest.fixture(autouse=True)
def no_service(tmp_path, monkeypatch):
    """As on a machine where the service was never installed."""
    monkeypatch.setattr("edge_agent.config.SERVICE_STATE_DIR", tmp_path / "service")


def test_without_a_file_the_defaults_hold():
    settings = read_settings(None, environment={"HOME": "/home/me"})
    assert (settings.broker.host, settings.broker.port, settings.base_topic, settings.discovery) == ("127.0.0.1", 1883, "hearthcast", "device")
    assert settings.state_dir == Path("/home/me/.local/state/hearthcast")


def test_systemd_gives_state_folder_and_password(tmp_path):
    (tmp_path / "mqtt-password").write_text("secret\n")
    settings = read_settings(None, environment={"STATE_DIRECTORY": "/var/lib/hearthcast", "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.state_dir == Path("/var/lib/hearthcast")
    assert settings.broker.password == "secret"


def test_root_means_the_services_state_folder_where_there_is_one(tmp_path, monkeypatch):
    (tmp_path / "service").mkdir()
    for uid, found in ((0, tmp_path / "service"), (1000, Path("/home/me/.local/state/hearthcast"))):
        monkeypatch.setattr("edge_agent.config.os.geteuid", lambda uid=uid: uid)
        assert read_settings(None, environment={"HOME": "/home/me"}).state_dir == found
        assert read_settings(None, environment={"XDG_STATE_HOME": "/x"}).state_dir == Path("/x/hearthcast")


def test_systemd_gives_the_key_of_a_certificate(tmp_path):
    (tmp_path / "mqtt-key").write_text("key")
    settings = read(tmp_path, '[mqtt]\ncert_file = "agent.crt"\n', environment={"HOME": "/home/me", "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (settings.broker.cert_file, settings.broker.key_file) == (tmp_path / "agent.crt", tmp_path / "mqtt-key")
    assert settings.broker.tls


def test_the_password_that_becomes_a_credential_is_found_beside_agent_toml(tmp_path):
    (tmp_path / "mqtt-password").write_text("secret\n")
    assert read(tmp_path, "").broker.password == "secret"
    assert read(tmp_path, '[mqtt]\ninsecure_plain_password = "plain"\n').broker.password == "plain"


def test_a_user_without_a_home_has_a_state_folder():
    assert read_settings(None, environment={}).state_dir == Path("/var/lib/hearthcast")


def test_password_is_not_in_the_settings_printed(tmp_path):
    settings = read(tmp_path, '[mqtt]\ninsecure_plain_password = "secret"\n')
    assert settings.broker.password == "secret"
    assert "secret" not in repr(settings)


def test_plain_password_needs_the_key_that_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"agent.toml: \[mqtt\] key 'password': unknown key: did you mean 'password_file'"):
        read(tmp_path, '[mqtt]\npassword = "secret"\n')


def test_paths_are_meant_against_the_files_folder(tmp_path):
    (tmp_path / "secret").write_text("pass word")
    settings = read(tmp_path, 'bundles = ["base"]\nstate_dir = "/srv/state"\n[mqtt]\npassword_file = "secret"\nca_file = "ca.pem"\n')
    assert settings.bundles == (tmp_path / "base",)
    assert settings.state_dir == Path("/srv/state")
    assert settings.broker.password == "pass word"
    assert (settings.broker.ca_file, settings.broker.tls, settings.broker.port) == (tmp_path / "ca.pem", True, 8883)


def test_a_price_tells_errors_in_money(tmp_path):
    settings = read(tmp_path, 'price = 0.3\ncurrency = "CHF"\n')
    assert (settings.price, settings.currency) == (0.3, "CHF")
    assert read(tmp_path, "").price is None
    with pytest.raises(ConfigError, match="key 'price': -2: the price of a kWh is expected"):
        read(tmp_path, "price = -2\n")


def test_flags_override_the_file(tmp_path):
    flags = {"broker": "broker.local:1884", "log_level": "debug", "state_dir": None}
    settings = read(tmp_path, 'log_level = "error"\nstate_dir = "/srv/state"\n[mqtt]\nhost = "other"\nusername = "me"\n', flags)
    assert (settings.broker.host, settings.broker.port, settings.broker.username) == ("broker.local", 1884, "me")
    assert (settings.log_level, settings.state_dir) == ("debug", Path("/srv/state"))


def test_the_history_has_limits(tmp_path):
    limits = read(tmp_path, "[history]\nkeep_readings_days = 2\nkeep_steps_days = 400\nmax_mb = 200\n").limits
    assert (limits.readings_s, limits.steps_s, limits.max_bytes) == (172_800.0, 34_560_000.0, 200_000_000)
    assert read(tmp_path, "").limits == HistoryLimits()


@pytest.mark.parametrize("line", ["keep_readings_days = 0", "keep_steps_days = 59", "max_mb = 49", "keep = 1"])
def test_a_history_needs_room_for_what_forecasts_read(tmp_path, line):
    with pytest.raises(ConfigError, match=rf"\[history\] key '{line.split()[0]}'"):
        read(tmp_path, f"[history]\n{line}\n")


def test_forecast_times_are_sorted_and_single(tmp_path):
    assert read(tmp_path, 'forecast_at = ["18:30", "06:00", "18:30"]').forecast_at == (time(6), time(18, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('discovery = "device"', r"key 'discovery': unknown key"),
        ('[homeassistant]\ndiscovery = "singel"', r"\[homeassistant\] key 'discovery': 'singel' is not valid: did you mean 'single'"),
        ("[mqtt]\nport = 70000", r"\[mqtt\] key 'port': 70000 is no port"),
        ('[mqtt]\nport = "1883"', r"'1883' is a text: a whole number is expected"),
        ('[mqtt]\ncert_file = "a.pem"', "give both or none"),
        ('[mqtt]\npassword_file = "no-such-file"', "no-such-file: cannot be read"),
        ('forecast_at = ["24:00"]', r"'24:00' is no time of the day"),
        ('forecast_at = "06:00"', "a list of texts is expected"),
        ('base_topic = "home/#"', "without wildcards"),
        ("bundles = ", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"), [("a", ("a", 1883)), ("a.b:1", ("a.b", 1)), ("[::1]:99", ("::1", 99)), ("[fe80::1]", ("fe80::1", 1883))]
)
def test_broker_addresses(text, expected):
    assert host_and_port(text, default_port=1883) == expected


@pytest.mark.parametrize("text", ["", "a:0", "a:70000", "a:b", "::1:99", "mqtt://a:1883"])
def test_no_broker_addresses(text):
    with pytest.raises(ConfigError, match="HOST:PORT is expected"):
        host_and_port(text, default_port=1883)


def test_metrics_are_off_unless_a_socket_or_a_port_is_given(tmp_path):
    settings = read(tmp_path, "")
    assert (settings.metrics_socket, settings.metrics_port) == (None, None)
    assert read(tmp_path, '[metrics]\nsocket = "metrics.sock"\n').metrics_socket == tmp_path / "metrics.sock"
    assert read(tmp_path, "[metrics]\nport = 9764\n").metrics_port == 9764


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('socket = "a"\nport = 1', "key 'port': there is a 'socket' too"),
        ("port = 0", "key 'port': 0 is no port"),
        ("port = 70000", "key 'port': 70000 is no port"),
        ('port = "9764"', "key 'port': '9764' is a text"),
        (f'socket = "/{"a" * 107}"', "key 'socket': .* at most 107 bytes"),
        ('listen = "0.0.0.0:9764"', "key 'listen': unknown key"),
    ],
)
def test_metrics_settings_that_cannot_be_are_refused(tmp_path, lines, why):
    with pytest.raises(ConfigError, match=rf"\[metrics\] {why}"):
        read(tmp_path, f"[metrics]\n{lines}\n")


def test_the_log_is_for_people_or_for_programs(tmp_path):
    assert read(tmp_path, "").log_form == "text"
    assert read(tmp_path, 'log_form = "json"\n').log_form == "json"
    with pytest.raises(ConfigError, match="key 'log_form'"):
        read(tmp_path, 'log_form = "xml"\n')
