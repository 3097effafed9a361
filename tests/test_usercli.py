"""The user's commands, as a person and as a program call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from guardian import check, commands, reading, tell, usercli
from guardian.config import Settings, StoreSettings
from guardian.const import NS
from guardian.errors import GuardianError
from guardian.incidents import DeviceRef, FeatureEvidence, IncidentEvent, Peer
from guardian.store import Store
from tests.test_store import MAC, ROOT, device, incident, step, writer

NASTY = "\x1b[2J\x1b]0;owned\x07\u202eevil\r\nroot: x\u200b\ud800"
__all__ = ["writer"]  # a fixture
START = time.time_ns()


@click.group()
def cli() -> None:
    """As guardian/cli.py attaches them."""


for command in usercli.USER_COMMANDS:
    cli.add_command(command)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guardian.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A home of three with one open and one ended incident, written by a running daemon."""
    with Store(path, drop_box=True) as made:
        made.add_bundle("d1", "default 0.1", {}, START)
        now = replace(incident("scan-1a2b"), opened=START, updated=START)
        past = replace(
            incident("beacon-9f"), device=DeviceRef("02:00:00:00:00:02", "192.168.1.30", "plug"),
            opened=START - 30 * 3600 * NS, updated=START - 29 * 3600 * NS,
            closed=START - 29 * 3600 * NS, severity="medium", cause="c2", speaker="counter",
        )  # fmt: skip
        step(
            made,
            devices=[
                device(last_seen=START),
                device("02:00:00:00:00:02", name="plug", addresses=("fe80::1", "192.168.1.30"),
                       last_seen=START),
                device("02:00:00:00:00:fe", name="", addresses=("192.168.1.1",), gateway=True,
                       last_seen=START),
            ],
            events=[IncidentEvent("opened", now), IncidentEvent("closed", past)],
            now=START,
        )  # fmt: skip
        yield made


def call(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--db", str(path)])


def good(path: Path, *arguments: str) -> str:
    result = call(path, *arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert result.stderr == ""
    for line in result.stdout.splitlines():
        assert tell.width(line) <= tell.WIDTH, line
        assert line == line.rstrip()
    return result.stdout


def parsed(path: Path, *arguments: str) -> Any:
    result = call(path, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    result.stdout.encode("ascii")
    return json.loads(result.stdout)


def refused(path: Path, *arguments: str) -> str:
    """The sentence of a failure; cli.main prints it and exits with 1."""
    error = call(path, *arguments).exception
    assert isinstance(error, GuardianError), error
    assert "\n" not in str(error)
    return str(error)


# --- reading ---------------------------------------------------------------------


def test_devices(store: Store, path: Path) -> None:
    lines = good(path, "devices").splitlines()
    assert lines[0].split() == ["NAME", "ADDRESS", "MAC", "CLASS", "LAST", "SEEN", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == ["camera", "192.168.1.1", "plug"]
    assert lines[1].split()[-1] == "ALERT"
    assert lines[2].split()[-1] == "gateway"
    assert "192.168.1.30" in lines[3]
    assert lines[3].split()[-1] == "quiet"
    assert "today" in lines[1] or "yesterday" in lines[1]
    start = lines[0].index("MAC")
    assert all(line[start - 1] == " " and line[start] != " " for line in lines)
    first = parsed(path, "devices")[0]
    assert first["key"] == MAC
    assert (first["state"], first["open_incidents"]) == ("alert", 1)
    assert first["last_seen"] == pytest.approx(START / NS)


def test_alerts(store: Store, path: Path) -> None:
    text = good(path, "alerts")
    assert text.index("scan-1a2b") < text.index("beacon-9f")
    assert "HIGH" in text
    assert "MEDIUM" in text
    assert "still going on" in text
    assert "camera called 214 addresses on port 23" in text
    assert "beacon" not in good(path, "alerts", "--open")
    assert [i["id"] for i in parsed(path, "alerts")] == ["scan-1a2b", "beacon-9f"]
    assert [i["id"] for i in parsed(path, "alerts", "-n", "1")] == ["scan-1a2b"]
    # The fields that `replay --json` promises.
    assert {
        "id", "device", "opened", "updated", "closed", "severity", "cause", "label", "score",
        "explanation", "advice", "features", "peers", "connections",
    } <= set(parsed(path, "alerts")[0])  # fmt: skip
    assert set(parsed(path, "alerts")[0]["device"]) == {"mac", "ip", "name"}


def test_explain(store: Store, path: Path) -> None:
    text = good(path, "explain", "scan")
    for part in (
        "HIGH    camera (192.168.1.20, 02:00:00:00:00:01)",
        "Unplug it.",
        "new addresses a minute",
        "60 %",
        "10.9.9.9",
        "23/tcp",
        "telnet",
        "the models (default 0.1)",
        "opened",
        "guardian feedback scan-1a2b this-was-me | fine | bad",
    ):
        assert part in text, part
    assert "a plain counter" in good(path, "explain", "beacon-9f")
    told = parsed(path, "explain", "scan-1a2b")
    assert told["history"][0]["change"] == "opened"
    assert told["features"][0]["usual_high"] == 3.0


def test_an_id_by_its_first_letters(store: Store, path: Path) -> None:
    events = [IncidentEvent("opened", incident(name)) for name in ("ab", "abc", "abd", "%_")]
    step(store, events=events, now=START + NS)
    assert parsed(path, "explain", "ab")["id"] == "ab"  # the whole id wins
    assert parsed(path, "explain", "abc")["id"] == "abc"
    assert "may be" in refused(path, "explain", "a")
    assert "guardian alerts" in refused(path, "explain", "x")
    assert "guardian alerts" in refused(path, "explain", "")
    assert parsed(path, "explain", "%")["id"] == "%_"  # no wildcard


def test_nothing_yet(path: Path) -> None:
    Store(path).close(START)
    assert "No devices yet" in good(path, "devices")
    assert "all is quiet" in good(path, "alerts")
    assert "No open alerts" in good(path, "alerts", "--open")
    assert parsed(path, "devices") == []
    assert parsed(path, "alerts") == []


@pytest.mark.parametrize(
    "arguments", [("devices",), ("alerts",), ("explain", "x"), ("snooze", "x"), ("allow", "x")]
)
def test_no_database(path: Path, arguments: tuple[str, ...]) -> None:
    assert "start the daemon" in refused(path, *arguments)
    assert "--db" in refused(path, *arguments)
    assert not path.exists()


def test_a_damaged_database(path: Path) -> None:
    path.write_bytes(b"x" * 10_000)
    assert "damaged" in refused(path, "alerts")


def test_the_database_from_the_environment(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GUARDIAN_DB", str(path))
    assert CliRunner().invoke(cli, ["devices"]).exit_code == 0
    monkeypatch.delenv("GUARDIAN_DB")
    monkeypatch.setenv("GUARDIAN_STORE_PATH", str(tmp_path / "other.db"))
    error = CliRunner().invoke(cli, ["devices"]).exception
    assert "other.db" in str(error)


def test_beside_a_daemon_that_writes(path: Path, writer: subprocess.Popen[str]) -> None:
    counts = []
    for _ in range(10):
        counts.append(len(parsed(path, "alerts", "-n", "10000")))
        assert parsed(path, "devices")[0]["open_incidents"] >= counts[-1]
    assert counts == sorted(counts)
    good(path, "snooze", MAC)
    assert writer.poll() is None


# --- the week's limit --------------------------------------------------------------


def test_what_was_held_back_is_counted_and_listed_on_request(store: Store, path: Path) -> None:
    assert "Alerts:" not in good(path, "alerts")
    assert "Nothing is held back." in good(path, "alerts", "--held")
    store.note_limit(2)
    assert "none was ever held back" in " ".join(good(path, "alerts").split())
    old = START - 20 * 86_400 * NS
    events = [
        IncidentEvent("held", incident("held-1", opened=START, updated=START)),
        IncidentEvent("held", incident("held-2", opened=old, updated=old, closed=None)),
        IncidentEvent("held", incident("told-1", opened=START, updated=START)),
        IncidentEvent("opened", incident("told-1", opened=START, updated=START)),
    ]
    step(store, events=events, now=START + NS)
    text = " ".join(good(path, "alerts").split())
    always = "high severity and plain rules always"
    assert f"2 told in the last seven days (at most 2, {always}); 2 held back" in text
    assert (
        "the limit was reached in 2 of 3 weeks, 3 held back in all (guardian alerts --held)" in text
    )
    assert "held-" not in text
    assert "told-1" in text
    assert {i["id"] for i in parsed(path, "alerts", "--held")} == {"held-1", "held-2"}
    assert "held back since the alerts of the week were spent" in good(path, "explain", "held-1")
    assert parsed(path, "devices")[0]["open_incidents"] == 2
    assert store.untold() == {"held-1": True, "held-2": True}
    assert sorted(store.told(START - NS)) == [START, START]


def test_check_says_how_often_the_limit_was_reached(store: Store, path: Path) -> None:
    settings = Settings(store=StoreSettings(path=str(path)))
    step(store, events=[IncidentEvent("held", incident("h", opened=START, updated=START))],
         now=START + NS)  # fmt: skip
    said = check.alerts(settings)
    assert said.startswith(
        "1 told in the last seven days (at most 2, high severity and plain rules always); 1 held"
    )
    assert check.alerts(Settings(store=StoreSettings(path="/none"))) == (
        "at most 2 a week, high severity and plain rules always"
    )


# --- hostile names -----------------------------------------------------------------


def test_hostile_names_do_nothing_to_a_terminal(path: Path) -> None:
    nasty = incident(
        "x1",
        device=DeviceRef(MAC, "192.168.1.20", NASTY),
        explanation=NASTY * 3,
        advice=NASTY,
        features=(FeatureEvidence("f", NASTY, float("nan"), 0.0, float("inf"), 0.5),),
        peers=(Peer("10.9.9.9", 23, "tcp", NASTY, 4),),
    )
    with Store(path) as store:
        step(store, devices=[device(name=NASTY)], events=[IncidentEvent("opened", nasty)])
        # As though an older version had stored it unchecked.
        raw = NASTY.replace("\ud800", "")
        store._db.execute("UPDATE devices SET user_name = ?", (raw,))
        store._db.execute("UPDATE incidents SET name = ?, advice = ?", (raw, raw))
    for arguments in (("devices",), ("alerts",), ("explain", "x1")):
        text = good(path, *arguments)
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "evil" in text
        assert not any(line.startswith("root: x") for line in text.splitlines())
        parsed(path, *arguments)
    good(path, "snooze", MAC)


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2)))
def test_tables_are_aligned_whatever_is_in_them(rows: list[list[str]]) -> None:
    lines = tell.table(("A", "B"), rows, (10, 12)).split("\n")
    assert len(lines) == len(rows) + 1
    for line in lines:
        assert tell.width(line) <= 24
        assert all(c.isprintable() for c in line)


# --- telling the daemon --------------------------------------------------------------


def test_a_name(store: Store, path: Path) -> None:
    step(store, now=time.time_ns())  # the daemon wrote just now, however long the tests run
    assert "takes it up within seconds" in good(path, "devices", "--name", MAC, "Hall camera")
    (wish,) = store.poll_commands(START)
    assert (wish.kind, wish.args) == ("name", {"device": MAC, "name": "Hall camera"})
    store.name_device(wish.args["device"], wish.args["name"])
    store.mark_done(wish.id, START)
    assert "Hall camera" in good(path, "devices")
    assert "Hall camera" in good(path, "alerts")
    assert parsed(path, "devices")[0]["named_by_user"] is True
    good(path, "devices", "--name", "hall CAM", "\x1b[31mX")
    assert store.poll_commands(START)[0].args["name"] == "[31mX"


def test_the_daemon_is_not_running(path: Path) -> None:
    with Store(path) as store:
        step(store, devices=[device()], now=START)
    assert "not running" in good(path, "snooze", "camera")


def test_snooze(store: Store, path: Path) -> None:
    good(path, "snooze", "192.168.1.20", "--for", "3h")
    (wish,) = store.poll_commands(START)
    assert wish.kind == "snooze"
    assert wish.args["device"] == MAC
    assert wish.args["until"] == pytest.approx(time.time_ns() + 3 * 3600 * NS, abs=60 * NS)
    store.mark_done(wish.id, START)
    assert [rule.id for rule in store.rules(START)] == [wish.id]
    good(path, "snooze", "plug")
    store.mark_done(store.poll_commands(START)[0].id, START)
    assert "until" in good(path, "devices").splitlines()[3]


def test_allow(store: Store, path: Path) -> None:
    said = good(path, "allow", "PLUG", "--peer", "10.0.0.9/24", "--cause", "c2", "--for", "7d")
    assert "c2 of plug with 10.0.0.0/24 is fine until" in " ".join(said.split())
    good(path, "allow", "--peer", "Example.ORG")
    good(path, "allow", "--cause", "unusual")
    told = parsed(path, "allow", "--peer", "fd00::0001")
    first, second, third, fourth = store.poll_commands(START)
    assert first.args["device"] == "02:00:00:00:00:02"
    assert (first.args["peer"], first.args["cause"]) == ("10.0.0.0/24", "c2")
    assert second.args == {"device": None, "peer": "example.org", "cause": None, "until": None}
    assert third.args["cause"] == "unusual"
    assert (fourth.args["peer"], fourth.id) == ("fd00::1", told["id"])


def test_feedback(store: Store, path: Path) -> None:
    good(path, "feedback", "sc", "this-was-me")
    (wish,) = store.poll_commands(START)
    assert wish.args == {"incident": "scan-1a2b", "answer": "this-was-me"}
    assert store.set_feedback(**wish.args)
    store.mark_done(wish.id, time.time_ns())
    said = " ".join(good(path, "explain", "scan").split())
    assert "You said: this-was-me. Scan of camera is fine until tomorrow" in said
    assert "guardian feedback scan-1a2b --undo" in said
    assert parsed(path, "alerts")[0]["feedback"] == "this-was-me"
    assert "scan of camera is fine (your answer to scan-1a2b) until" in good(path, "devices")
    good(path, "feedback", "scan", "--undo")
    (undo,) = store.poll_commands(START)
    assert undo.args == {"command": wish.id}
    assert store.undo(wish.id)
    store.mark_done(undo.id, START)
    assert "What was it?" in good(path, "explain", "scan")
    assert "What you said" not in good(path, "devices")
    assert "no answer" in refused(path, "feedback", "scan", "--undo")


def test_an_answer_in_other_words_says_what_it_changes(store: Store, path: Path) -> None:
    said = " ".join(good(path, "feedback", "scan", "this-is-bad").split())
    assert "scan of camera is told sooner, by half the evidence, for 30 days" in said
    (wish,) = store.poll_commands(START)
    assert wish.args["answer"] == "bad"
    store.set_feedback(**wish.args)
    store.mark_done(wish.id, START)
    assert "told sooner, by half the evidence" in good(path, "devices")
    good(path, "feedback", "scan", "this-is-fine")
    assert store.poll_commands(START)[0].args["answer"] == "fine"


def test_an_answer_whose_time_is_over_can_still_be_taken_back(store: Store, path: Path) -> None:
    good(path, "feedback", "scan", "this-was-me")
    (wish,) = store.poll_commands(START)
    store.set_feedback(**wish.args)
    store.mark_done(wish.id, START - 40 * 86_400 * NS)
    assert "its time is over" in " ".join(good(path, "explain", "scan").split())
    good(path, "feedback", "scan", "--undo")
    assert store.poll_commands(START)[0].args == {"command": wish.id}


def test_an_allowance_shows_what_it_would_have_changed(store: Store, path: Path) -> None:
    other = replace(
        incident("scan-77"), opened=START, updated=START,
        peers=(Peer("10.9.9.9", 23, "tcp", "", 4), Peer("10.8.8.8", 23, "tcp", "", 1)),
    )  # fmt: skip
    step(store, events=[IncidentEvent("opened", other)], now=START + NS)
    text = good(path, "allow", "camera", "--peer", "10.9.9.0/24", "--preview")
    assert "Of the 3 incidents so far, 1 would not have been told." in text
    assert "open: ends now" in text
    assert text.index("scan-1a2b") < text.index("1 more would have had less") < text.index("77")
    assert "beacon" not in text
    assert "Noted" not in text
    assert store.poll_commands(START) == []
    found = parsed(path, "allow", "plug", "--preview")
    assert [(i["id"], i["whole"]) for i in found["covered"]] == [("beacon-9f", True)]
    assert "Of the 3 incidents so far, 0 would" in good(path, "allow", "--peer", "10.7.7.7")
    assert len(store.poll_commands(START)) == 1


def test_whom_nobody_kept_is_not_called_covered(store: Store, path: Path) -> None:
    many = tuple(Peer("10.9.9.9", port, "tcp", "", 1) for port in range(20))
    step(store, events=[IncidentEvent("opened", incident("scan-88", peers=many))], now=START + NS)
    found = parsed(path, "allow", "--peer", "10.9.9.9", "--preview")["covered"]
    assert {i["id"]: i["whole"] for i in found}["scan-88"] is False


def test_a_preview_counts_all_and_lists_some(store: Store, path: Path) -> None:
    events = [IncidentEvent("opened", incident(f"x{k:02}")) for k in range(30)]
    step(store, events=events, now=START + NS)
    text = good(path, "allow", "--cause", "scan", "--preview")
    assert "31 would not have been told" in text
    assert "and 21 older" in text
    assert len(text.splitlines()) == 12


def test_until_a_date(store: Store, path: Path) -> None:
    end = datetime(2031, 1, 31).astimezone()
    good(path, "allow", "camera", "--until", "2031-01-31")
    good(path, "snooze", "camera", "--until", "2031-01-31 18:00")
    first, second = store.poll_commands(START)
    assert first.args["until"] == int((end + timedelta(days=1)).timestamp()) * NS
    assert second.args["until"] == int((end + timedelta(hours=18)).timestamp()) * NS


def test_what_holds_is_listed_and_taken_back(store: Store, path: Path) -> None:
    assert "Nothing is allowed" in good(path, "allow", "--list")
    good(path, "allow", "camera", "--peer", "example.org", "--cause", "c2", "--for", "30d")
    good(path, "snooze", "plug", "--for", "1h")
    assert "2 commands wait for the daemon" in good(path, "allow", "--list")
    for wish in store.poll_commands(START):
        store.mark_done(wish.id, START)
    text = good(path, "allow", "--list")
    assert "c2 of camera with example.org is fine" in text
    assert "no notice about plug" in text
    allowed, snoozed = parsed(path, "allow", "--list")
    assert allowed["id"][:8] in text
    assert "allow --undo" in good(path, "explain", "scan") or allowed["cause"] == "c2"
    good(path, "allow", "--undo", allowed["id"][:8])
    good(path, "snooze", "plug", "--undo")
    undone = [c.args["command"] for c in store.poll_commands(START)]
    assert undone == [allowed["id"], snoozed["id"]]
    assert all(store.undo(command) for command in undone)
    assert "Nothing" in good(path, "allow", "--list")
    assert "guardian allow --list" in refused(path, "allow", "--undo", allowed["id"])
    assert "not snoozed" in refused(path, "snooze", "plug", "--undo")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("allow",), "name a DEVICE"),
        (("allow", "--cause", "love"), "love"),
        (("allow", "camera", "--for", "soon"), "2h"),
        (("snooze", "camera", "--for", "0h"), "2h"),
        (("snooze", "camera", "--for", "999999w"), "2h"),
        (("snooze",), "DEVICE"),
        (("snooze", "camera", "--undo", "--for", "1h"), "--undo"),
        (("snooze", "camera", "--for", "1h", "--until", "2031-01-01"), "not both"),
        (("allow", "camera", "--until", "2001-01-01"), "past"),
        (("allow", "camera", "--until", "tomorrow"), "2027-01-31"),
        (("allow", "camera", "--list"), "stand alone"),
        (("allow", "--list", "--undo", "x"), "stand alone"),
        (("feedback", "scan", "maybe"), "this-was-me"),
        (("feedback", "scan"), "ANSWER"),
        (("feedback", "scan", "bad", "--undo"), "ANSWER"),
        (("alerts", "-n", "0"), "1<=x"),
        (("explain",), "ID"),
    ],
)
def test_usage(store: Store, path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = call(path, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""
    assert store.poll_commands(START) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("snooze", "toaster"), "guardian devices"),
        (("snooze", ""), "guardian devices"),
        (("snooze", "02"), "guardian devices"),
        (("allow", "--peer", "a b"), "no address, network or host name"),
        (("allow", "--peer", "x" * 300), "no address, network or host name"),
        (("feedback", "zz", "fine"), "guardian alerts"),
        (("devices", "--name", "toaster", "x"), "guardian devices"),
    ],
)
def test_mistakes(store: Store, path: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(path, *arguments)
    assert store.poll_commands(START) == []


def test_devices_of_one_name(store: Store, path: Path) -> None:
    twin = device("02:00:00:00:00:09", name="camera 2", last_seen=START)
    step(store, devices=[twin], now=START + 9 * NS)
    with reading.reading(path) as db:
        assert reading.find_device(db, "camera")["key"] == MAC  # the whole name wins
        assert reading.find_device(db, "02-00-00-00-00-09")["key"] == twin.key
    assert "may be" in refused(path, "snooze", "cam")


def test_what_the_commands_leave_is_what_the_daemon_takes(store: Store, path: Path) -> None:
    good(path, "allow", "camera", "--for", "1w")
    good(path, "snooze", "camera")
    good(path, "feedback", "scan", "bad")
    good(path, "devices", "--name", "camera", "")
    assert [c.kind for c in store.poll_commands(START)] == ["allow", "snooze", "feedback", "name"]
    assert all(commands.check(c.kind, c.args) is None for c in store.poll_commands(START))


# --- words -----------------------------------------------------------------------


def test_when() -> None:
    noon = datetime(2026, 3, 12, 12, 0).astimezone()
    now = noon.timestamp()
    assert tell.when(now, now) == "today 12:00"
    assert tell.when((noon - timedelta(days=1)).timestamp(), now) == "yesterday 12:00"
    assert tell.when((noon - timedelta(days=9)).timestamp(), now) == "3 Mar 12:00"
    assert tell.when((noon - timedelta(days=90)).timestamp(), now) == "12 Dec 2025 12:00"
    assert tell.when((noon + timedelta(days=1)).timestamp(), now) == "tomorrow 12:00"
    assert tell.when((noon + timedelta(days=2)).timestamp(), now) == "14 Mar 12:00"


@pytest.mark.parametrize(
    ("value", "text"),
    [(214.0, "214"), (0.123456, "0.123"), (12345.6, "12,346"), (3.0, "3"), (None, "?")],
)
def test_amounts(value: float | None, text: str) -> None:
    assert tell.amount(value) == text


def test_the_commands_load_little(store: Store, path: Path) -> None:
    """Help needs neither numpy nor the network; reading loads sqlite-utils and no more."""
    code = """
import sys
from guardian import usercli
heavy = {"numpy", "paho", "tensorflow", "pandas", "scapy", "sqlite_utils"}
print(sorted(heavy & set(sys.modules)))
usercli.alerts.main(["--db", sys.argv[1]], standalone_mode=False)
print(sorted((heavy - {"numpy", "pandas"}) & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], text=True, capture_output=True, check=True,
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("[]", "['sqlite_utils']")


def test_two_people_at_once(store: Store, path: Path) -> None:
    def say(n: int) -> None:
        for i in range(5):
            wish = commands.new("name", {"device": MAC, "name": f"{n}.{i}"}, START)
            commands.give(path, wish)

    people = [threading.Thread(target=say, args=(n,)) for n in range(4)]
    for person in people:
        person.start()
    taken: set[str] = set()
    while any(p.is_alive() for p in people):
        taken |= {c.args["name"] for c in store.poll_commands(START)}
    for person in people:
        person.join()
    taken |= {c.args["name"] for c in store.poll_commands(START)}
    assert len(taken) == 20
