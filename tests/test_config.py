"""Settings: the shipped example is the defaults, mistakes are named with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardian import config, configtext
from guardian.errors import ConfigError
from tests.conftest import ROOT


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "guardian.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_documented_file_is_the_generated_one_and_holds_the_defaults() -> None:
    """Write it anew with `python -m guardian.configtext docs/guardian.toml`."""
    path = ROOT / "docs" / "guardian.toml"
    assert path.read_text(encoding="utf-8") == configtext.render()
    assert config.load(path, {}) == config.Settings()


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, '[mqtt]\nhost = "a"\nport = 1884\n')
    environ = {
        "GUARDIAN_MQTT_HOST": "b",
        "GUARDIAN_HOME_LAN": "10.1.0.0/16, fd00::/8",
        "GUARDIAN_CAPTURE_PROMISCUOUS": "true",
        "GUARDIAN_DATA": "not a setting",
    }
    settings = config.load(file, environ)
    assert (settings.mqtt.host, settings.mqtt.port) == ("b", 1884)
    assert settings.home.lan == ("10.1.0.0/16", "fd00::/8")
    assert settings.capture.promiscuous is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[capture\n", "line 1"),
        ('[mqtt]\nhots = "a"\n', "line 2: unknown key 'hots'; did you mean 'host'?"),
        ("[mqqt]\n", "line 1: unknown key 'mqqt'; did you mean 'mqtt'?"),
        ('[mqtt]\nhost = "a"\nport = "1883"\n', "line 3: mqtt.port = '1883' must be a number"),
        ("[mqtt]\nport = 0\n", "line 2: mqtt.port = 0 must lie between 1 and 65535"),
        ("[capture]\nring_mib = true\n", "line 2: capture.ring_mib = True must be a number"),
        ('[home]\nlan = "10.0.0.0/8"\n', "line 2: home.lan"),
        ('[home]\nlan = ["10.0.0.0/8", "zz"]\n', "line 2: home.lan: 'zz' is no network"),
        ('[home]\ngateway_macs = ["aa:bb"]\n', "line 2: home.gateway_macs: 'aa:bb' is no MAC"),
        ('[home.names]\n"zz" = "Hall"\n', "home.names: 'zz' is no MAC or address"),
        ("[capture]\ninterface = 3\n", "line 2: capture.interface = 3 must be a list of texts"),
        ('[capture]\ninterface = ["br0", "a b"]\n', "line 2: capture.interface: 'a b' is no"),
        ('[capture]\ninterface = "averylongname123"\n', "15 characters at most"),
        ('[capture]\nbackend = "pcap"\n', "'pcap' must be one of auto, ring, sniffer"),
        ("[capture]\nfanout = 70000\n", "capture.fanout = 70000 must lie between 0 and 60000"),
        ("[capture]\nfilter = 22\n", "line 2: capture.filter = 22 must be a text"),
        ("version = 2\n", "version 2 is not 1"),
        ("mqtt = 3\n", "must be a section"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, text), {})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ['"br0,eth1.20"', '["br0", "eth1.20"]', '["br0", "eth1.20", "br0"]', '" br0 , eth1.20"']
)
def test_interfaces_may_be_a_list_or_one_text(tmp_path: Path, text: str) -> None:
    settings = config.load(written(tmp_path, f"[capture]\ninterface = {text}\n"), {})
    assert settings.capture.interface == ("br0", "eth1.20")
    settings = config.load(None, {"GUARDIAN_CAPTURE_INTERFACE": "br0, eth1.20"})
    assert settings.capture.interface == ("br0", "eth1.20")
    assert config.several(("br0,eth1.20", "br0", "lo")) == ("br0", "eth1.20", "lo")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the settings"):
        config.load(tmp_path / "none.toml", {})


def test_bad_environment_is_named() -> None:
    with pytest.raises(ConfigError, match=r"GUARDIAN_MQTT_PORT: mqtt\.port = 'x' must be a number"):
        config.load(None, {"GUARDIAN_MQTT_PORT": "x"})


def test_the_password_may_lie_in_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, "secret\n")
    settings = config.MqttSettings(password="other", password_file=str(file))
    assert config.mqtt_password(settings) == "secret"
    with pytest.raises(ConfigError, match="cannot read"):
        config.mqtt_password(config.MqttSettings(password_file=str(tmp_path / "none")))
