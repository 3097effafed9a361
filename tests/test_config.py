"""Settings: one place declares a key, mistakes are named with their place, files are kept safe."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from guardian import config, configtext, layers, options
from guardian.cli import cli
from guardian.errors import ConfigError
from guardian.option import Key, Rule, toml
from tests.conftest import ROOT

EVERY = [key for section in config.KEYS.values() for key in section.values()]


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "guardian.toml"
    file.write_text(text, encoding="utf-8")
    return file


def other(key: Key) -> Any:
    """A value that is right and not the default."""
    rule, default = key.rule, key.default
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        assert rule.low is not None
        return type(default)(rule.low if default != rule.low else rule.low + 1)
    examples = {
        "interface: 15": "br0", "network": "10.9.0.0/16", "MAC address": "aa:bb:cc:dd:ee:ff",
        "MAC or": "10.0.0.9", "address and port": "127.0.0.1:9000",
        "minisign": "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
    }  # fmt: skip
    wanted = rule.form.wanted if rule.form else ""
    text = next((v for begin, v in examples.items() if wanted.startswith(begin)), "words")
    if isinstance(default, tuple):
        return (text,)
    if key.is_table:
        entry = rule.entries[0] if rule.entries else text
        return {entry: rule.choices[-1] if rule.choices else "Hall camera"}
    return next((c for c in rule.choices if c != default), text)


# --- every key ---------------------------------------------------------------------


def test_the_documented_file_is_the_generated_one_and_holds_the_defaults() -> None:
    """Write it anew with `python -m guardian.configtext docs/guardian.toml`."""
    path = ROOT / "docs" / "guardian.toml"
    assert path.read_text(encoding="utf-8") == configtext.render()
    assert config.load(path, {}) == config.Settings()


def test_every_key_says_what_it_does_and_numbers_have_limits() -> None:
    for key in EVERY:
        assert key.rule.about.endswith((".", ")")), key.path
        if isinstance(key.default, int | float) and not isinstance(key.default, bool):
            assert key.rule.low is not None, key.path
            assert key.rule.high is not None, key.path
            key.value(key.default)
    for line in configtext.render().splitlines():
        assert len(line) <= configtext.WIDTH, line


@pytest.mark.parametrize("key", EVERY, ids=lambda key: key.path)
def test_every_key_can_be_given_in_all_three_ways(tmp_path: Path, key: Key) -> None:
    value = other(key)
    text = value if isinstance(value, str) else str(value)
    if isinstance(value, tuple):
        text = ",".join(value)
    elif isinstance(value, dict):
        text = ",".join(f"{name}={v}" for name, v in value.items())
    inner = f"[{key.section}]\n{key.name} = {toml(value)}\n"
    by_file = config.load(written(tmp_path, inner), {})
    by_environment = config.load(written(tmp_path, ""), {key.variable: text})
    by_command = config.load(written(tmp_path, ""), {}, [f"{key.path}={text}"])
    assert getattr(getattr(by_file, key.section), key.name) == value
    assert by_environment == by_command == by_file
    # and the whole file with it says the same
    rendered = written(tmp_path, configtext.render({key.section: {key.name: value}}))
    assert config.load(rendered, {}) == by_file


def test_variables_lie_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    file = written(tmp_path, '[mqtt]\nhost = "a"\nport = 1884\n')
    environ = {
        "GUARDIAN_MQTT_HOST": "b",
        "GUARDIAN_HOME_LAN": "10.1.0.0/16, fd00::/8",
        "GUARDIAN_CAPTURE_PROMISCUOUS": "true",
        "GUARDIAN_DATA": "not a setting",
    }
    settings = config.load(file, environ, ["mqtt.host=c", "mqtt.host=d"])
    assert (settings.mqtt.host, settings.mqtt.port) == ("d", 1884)
    assert config.load(file, environ).mqtt.host == "b"
    assert settings.home.lan == ("10.1.0.0/16", "fd00::/8")
    assert settings.capture.promiscuous is True
    elsewhere = {**environ, "GUARDIAN_CONFIG": str(file)}
    assert config.load(None, elsewhere).mqtt.port == 1884


def test_two_names_of_the_database_mean_the_same() -> None:
    one = {"GUARDIAN_STORE_PATH": "/a.db"}
    old = {"GUARDIAN_DB": "/a.db"}
    for environ in (one, old, one | old):
        assert config.load(None, environ).store.path == "/a.db"
        assert config.database(None, environ) == Path("/a.db")
    with pytest.raises(ConfigError, match="GUARDIAN_DB and GUARDIAN_STORE_PATH"):
        config.load(None, one | {"GUARDIAN_DB": "/b.db"})


def test_who_may_not_read_the_settings_still_finds_the_database(tmp_path: Path) -> None:
    unreadable = tmp_path / "folder.toml"
    unreadable.mkdir()
    assert config.database(unreadable, {"GUARDIAN_DB": "/a.db"}) == Path("/a.db")
    assert str(config.database(unreadable, {})) == "/var/lib/guardian/guardian.db"


# --- mistakes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[capture\n", "line 1"),
        ('[mqtt]\nhots = "a"\n', "line 2: unknown key 'hots'; did you mean 'host'?"),
        ("[mqqt]\n", "line 1: unknown key 'mqqt'; did you mean 'mqtt'?"),
        ('[mqtt]\nhost = "a"\nport = "1883"\n', "line 3: mqtt.port = '1883' must be a number"),
        ("[mqtt]\nport = 0\n", "line 2: mqtt.port = 0 must lie between 1 and 65535"),
        ("[store]\ncommit_s = nan\n", "line 2: store.commit_s = nan must lie between"),
        ("[capture]\nring_mib = true\n", "line 2: capture.ring_mib = True must be a number"),
        ('[home]\nlan = "10.0.0.0/8"\n', "line 2: home.lan"),
        ('[home]\nlan = ["10.0.0.0/8", "zz"]\n', "line 2: home.lan: 'zz' is no network"),
        ('[home]\ngateway_macs = ["aa:bb"]\n', "line 2: home.gateway_macs: 'aa:bb' is no MAC"),
        ('[home.names]\n"zz" = "Hall"\n', "line 2: home.names: 'zz' is no MAC or address"),
        ("[capture]\ninterface = 3\n", "line 2: capture.interface = 3 must be a list of texts"),
        ('[capture]\ninterface = ["br0", "a b"]\n', "line 2: capture.interface: 'a b' is no"),
        ('[capture]\ninterface = "averylongname123"\n', "15 characters at most"),
        ('[capture]\nbackend = "pcap"\n', "'pcap' must be one of auto, ring, sniffer"),
        ("[capture]\nfanout = 70000\n", "capture.fanout = 70000 must lie between 0 and 60000"),
        ('[store]\npath = "a\\u0000b"\n', "line 2: store.path: 'a\\x00b' has characters that"),
        ('[home.names]\n"10.0.0.9" = "a\\nb"\n', "home.names: 'a\\nb' has characters that"),
        ("[capture]\nfilter = 22\n", "line 2: capture.filter = 22 must be a text"),
        ('[log.parts]\ncaptrue = "debug"\n', "line 2: log.parts: 'captrue' is none of bundle"),
        ('[log.parts]\nstore = "loud"\n', "line 2: log.parts.store = 'loud' must be one of debug"),
        ('[metrics]\nlisten = "localhost"\n', "line 2: metrics.listen: 'localhost' is no address"),
        ("version = 2\n", "line 1: version 2 is not 1, the one known: these settings are of"),
        ('version = "1"\n', "version '1' is not 1"),
        ("mqtt = 3\n", "must be a section"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, text), {})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('# host\n[mqtt]\n# port = 1\n\n"port" = 0\n', 5),
        ("mqtt.port = 0\n", 1),
        ("mqtt = { host = 'a', port = 0 }\n", 1),
        ('[mqtt]\nusername = """\\\nport = 1\\\n"""\nport = 0\n', 5),
        ('[home]\nlan = [\n  "10.0.0.0/8",\n  "zz",\n]\n', 2),
        ('[alerts]\na_week = 1\n[home]\ngateway_macs = []\n[home.names]\n\n"zz" = "x"\n', 7),
        ("[ mqtt ]\n  port=0 # 1883\n", 2),
    ],
)
def test_the_line_is_right_however_toml_writes_it(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"guardian\.toml line {line}: "):
        config.load(written(tmp_path, text), {})


@pytest.mark.parametrize(
    ("environ", "sets", "said"),
    [
        ({"GUARDIAN_MQTT_PORT": "x"}, [], "GUARDIAN_MQTT_PORT: mqtt.port = 'x' must be a number"),
        ({"GUARDIAN_MQTT_HOST": "\udcff"}, [], "'\\udcff' has characters that are no text"),
        ({"GUARDIAN_MQTT_HOTS": "x"}, [], "did you mean 'GUARDIAN_MQTT_HOST'?"),
        ({"GUARDIAN_HOME_NAMES": "aa"}, [], "GUARDIAN_HOME_NAMES: home.names = 'aa' must be names"),
        ({}, ["mqtt.port=0"], "--set mqtt.port: mqtt.port = 0 must lie between"),
        ({}, ["mqtt.prot=0"], "did you mean 'port'?"),
        ({}, ["mqqt.port=0"], "did you mean 'mqtt'?"),
        ({}, ["port=0"], "write it like --set mqtt.host=hub.local"),
        ({}, ["mqtt.port"], "write it like --set mqtt.host=hub.local"),
    ],
)
def test_mistakes_outside_the_file_are_named(
    environ: dict[str, str], sets: list[str], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, environ, sets)
    assert said in str(caught.value)


@given(st.text(alphabet=st.sampled_from("[]=.\"'#{}\n mqtorhsp1é\x00"), max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        config.combined([layers.parse(text, "f")])
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most texts are wrong


@given(st.text(max_size=20), st.lists(st.text(max_size=5), max_size=3))
def test_every_text_is_written_as_toml_reads_it(text: str, several: list[str]) -> None:
    for value in (text, several, {text: text}, 3, 0.25, True):
        found = layers.parse(f"[x]\ny = {toml(value)}\n", "").tree
        assert found == {"x": {"y": value}}


@pytest.mark.parametrize(
    "text", ['"br0,eth1.20"', '["br0", "eth1.20"]', '["br0", "eth1.20", "br0"]', '" br0 , eth1.20"']
)
def test_interfaces_may_be_a_list_or_one_text(tmp_path: Path, text: str) -> None:
    settings = config.load(written(tmp_path, f"[capture]\ninterface = {text}\n"), {})
    assert settings.capture.interface == ("br0", "eth1.20")
    settings = config.load(None, {"GUARDIAN_CAPTURE_INTERFACE": "br0, eth1.20"})
    assert settings.capture.interface == ("br0", "eth1.20")
    assert config.several(("br0,eth1.20", "br0", "lo")) == ("br0", "eth1.20", "lo")


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the settings"):
        config.load(tmp_path / "none.toml", {})
    (tmp_path / "latin.toml").write_bytes(b'[mqtt]\nhost = "h\xfcb"\n')
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(tmp_path / "latin.toml", {})
    (tmp_path / "huge.toml").write_bytes(b"#" * (layers.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        config.load(tmp_path / "huge.toml", {})


# --- the file over the years -------------------------------------------------------


def test_an_earlier_version_is_understood_and_brought_up_to_date_with_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(tree: layers.Tree) -> None:
        tree.setdefault("mqtt", {})["host"] = tree.pop("hub", {}).get("address", "")

    monkeypatch.setattr(layers, "VERSION", 2)
    monkeypatch.setattr(configtext, "VERSION", 2)
    monkeypatch.setattr(layers, "STEPS", {1: step})
    old = 'version = 1\n[hub]\naddress = "b"\n[alerts]\na_week = 9 # mine\n'
    file = written(tmp_path, old)
    file.chmod(0o600)
    before = config.load(file, {})
    assert (before.mqtt.host, before.alerts.a_week) == ("b", 9)
    copy = configtext.update(file)
    assert copy.read_text(encoding="utf-8") == old
    assert file.stat().st_mode & 0o777 == copy.stat().st_mode & 0o777 == 0o600
    found = layers.parse(file.read_text(encoding="utf-8"), "").tree
    assert (found["version"], found["mqtt"]["host"], found["alerts"]["a_week"]) == (2, "b", 9)
    assert config.load(file, {}) == before
    assert configtext.update(file) != copy  # a second copy keeps the first


def test_an_update_keeps_every_value_and_refuses_a_file_with_a_mistake(tmp_path: Path) -> None:
    values: dict[str, dict[str, Any]] = {}
    for key in EVERY:
        values.setdefault(key.section, {})[key.name] = other(key)
    values["home"]["names"] = {"10.0.0.9": 'Anna\'s "é" \\ camera'}
    lines = [
        f"[{section}]\n" + "".join(f"{name} = {toml(v)}\n" for name, v in found.items())
        for section, found in values.items()
    ]
    file = written(tmp_path, "".join(lines))
    before = config.load(file, {})
    configtext.update(file)
    assert config.load(file, {}) == before
    assert before.home.names == values["home"]["names"]
    wrong = "[mqtt]\nhots = 1\n"
    file = written(tmp_path, wrong)
    with pytest.raises(ConfigError, match="line 2"):
        configtext.update(file)
    assert file.read_text(encoding="utf-8") == wrong


# --- commands ----------------------------------------------------------------------


def run(*words: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], env=environ)


def test_init_writes_a_file_once_and_check_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "guardian.toml"
    done = run("config", "init", "-o", file, "-i", "br0,eth1.20")
    assert done.exit_code == 0, done.output
    assert file.stat().st_mode & 0o777 == 0o640
    assert config.load(file, {}).capture.interface == ("br0", "eth1.20")
    assert run("config", "check", file).output == f"{file} is right\n"
    again = run("config", "init", "-o", file, "-i", "br1")
    assert isinstance(again.exception, ConfigError)
    assert "exists" in str(again.exception)
    forced = run("config", "init", "-o", file, "-i", "br1", "--force")
    assert forced.exit_code == 0
    assert config.load(file, {}).capture.interface == ("br1",)
    copy = next(file.parent.glob("*.bak"))
    assert config.load(copy, {}).capture.interface == ("br0", "eth1.20")
    assert run("config", "init", "-o", "-", "--plain").output == configtext.render()
    assert isinstance(run("config", "init", "-o", "-", "-i", "a b c").exception, ConfigError)


def test_show_tells_where_a_value_is_from_and_no_password(tmp_path: Path) -> None:
    file = written(tmp_path, '[mqtt]\nhost = "a"\npassword = "secret"\n')
    done = run(
        "config", "show", "--changed", "-c", file, "--set", "mqtt.port=1884",
        GUARDIAN_ALERTS_A_WEEK="7",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "secret" not in done.output
    rows = dict(re.findall(r"^(\S+) = .*# (.*)$", done.output, re.MULTILINE))
    assert rows == {
        "alerts.a_week": "GUARDIAN_ALERTS_A_WEEK",
        "mqtt.host": f"{file} line 2",
        "mqtt.port": "--set mqtt.port",
        "mqtt.password": f"{file} line 3",
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_be_taught_the_words(shell: str) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "_GUARDIAN_COMPLETE" in done.output
    assert f"{shell}_complete" in done.output


def test_bash_takes_what_is_printed_for_it(tmp_path: Path) -> None:
    script = tmp_path / "guardian"
    script.write_text(run("completion", "bash").output, encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", f"source {script} && complete -p guardian"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "_guardian_completion" in done.stdout


def test_the_shell_completes_keys_and_commands() -> None:
    environ = {"COMP_WORDS": "guardian conf", "COMP_CWORD": "1"}
    done = CliRunner().invoke(
        cli, [], env={**environ, "_GUARDIAN_COMPLETE": "bash_complete"}, prog_name="guardian"
    )
    assert "plain,config" in done.output
    environ = {"COMP_WORDS": "guardian run --set alerts.", "COMP_CWORD": "3"}
    done = CliRunner().invoke(
        cli, [], env={**environ, "_GUARDIAN_COMPLETE": "bash_complete"}, prog_name="guardian"
    )
    assert "plain,alerts.a_week=" in done.output


# --- the rest ----------------------------------------------------------------------


def test_the_password_may_lie_in_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, "secret\n")
    settings = config.MqttSettings(password="other", password_file=str(file))
    assert config.mqtt_password(settings) == "secret"
    with pytest.raises(ConfigError, match="cannot read"):
        config.mqtt_password(config.MqttSettings(password_file=str(tmp_path / "none")))


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    written(tmp_path, "[alerts]\na_week = 3\n")
    link = tmp_path / "link.toml"
    link.symlink_to("guardian.toml")
    copy = configtext.update(link)
    assert link.is_symlink()
    assert config.load(tmp_path / "guardian.toml", {}).alerts.a_week == 3
    assert copy.read_text(encoding="utf-8") == "[alerts]\na_week = 3\n"


def test_sections_are_settings_and_nothing_else() -> None:
    assert {f.name for f in fields(config.Settings)} == {"version", *config.KEYS}
    assert replace(config.Settings()) == config.Settings()
    assert options.sets_given() == ()
    assert Rule("x").live is False
