"""Guesses at a broker's password: a plain rule, on rows made by hand and at a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardian.addresses import Lan
from guardian.alerts import AlertSettings
from guardian.clues import REFUSED, clues
from guardian.conns import ConnTable
from guardian.decode import decode
from guardian.guesses import GUESSES, MAX_GUESSING, Guesses
from guardian.incidents import Incident
from guardian.seen import see
from tests.broker import mosquitto
from tests.incident_rows import S, incident_table, run, tables
from tests.watching import Gateway, Reader, two_lans


def guesses(number: int = 40, *, every: float = 1.0) -> list[S]:
    """Return logins that a broker refuses, of five lengths."""
    return [
        S(10.0 + k * every, peer="192.168.1.6", port=1_883, service="mqtt",
          orig_bytes=24 + k % 5, resp_bytes=4, refused=True)
        for k in range(number)
    ]  # fmt: skip


def told(rows: list[S]) -> list[Incident]:
    table = incident_table(settings=AlertSettings(counters=True))
    return [e.incident for e in run(table, rows) if e.change == "opened"]


def test_guesses_are_told_at_the_twentieth() -> None:
    (one,) = told(guesses())
    assert (one.cause, one.speaker, one.count) == ("brute-force", "counter", GUESSES)
    assert "20 logins that one broker refused" in one.explanation


def test_what_goes_on_counts_each_guess() -> None:
    table = incident_table(settings=AlertSettings(counters=True))
    events = run(table, guesses(70), until=86_400.0)
    assert [e.change for e in events].count("opened") == 1
    assert events[-1].incident.count == 70


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("fewer", guesses(GUESSES - 1)),
        ("seldom", guesses(every=20.0)),
        ("an old password: the same bytes each time",
         [replace(s, orig_bytes=28) for s in guesses()]),
        ("it was let in", [replace(s, refused=False) for s in guesses()]),
        ("the same connection goes on", [replace(s, piece=k) for k, s in enumerate(guesses())][1:]),
        ("one at each of many brokers",
         [replace(s, peer=f"192.168.1.{k + 10}") for k, s in enumerate(guesses())]),
    ],
)  # fmt: skip
def test_what_is_no_guessing(why: str, rows: list[S]) -> None:
    assert told(rows) == [], why


def knocks(number: int = 40, *, every: float = 10.0) -> list[S]:
    """Return sessions of SSH that one stranger opens."""
    return [
        S(10.0 + k * every, peer="203.0.113.9", port=22, service="ssh", outbound=False,
          uid=f"K{k}")
        for k in range(number)
    ]  # fmt: skip


def test_a_stranger_who_opens_one_session_after_the_other_guesses() -> None:
    (one,) = told(knocks())
    assert (one.cause, one.speaker, one.count) == ("brute-force", "counter", GUESSES)
    assert "port 22 that one machine outside opened" in one.explanation


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("fewer", knocks(GUESSES - 1)),
        ("seldom", knocks(every=20.0)),
        ("a machine of the home", [replace(s, peer="192.168.1.9") for s in knocks()]),
        ("the home's own device opens them", [replace(s, outbound=True) for s in knocks()]),
        ("the same session goes on",
         [replace(s, piece=k, uid="K", final=False) for k, s in enumerate(knocks())][1:]),
        ("a page: no password is asked", [replace(s, service="http") for s in knocks()]),
    ],
)  # fmt: skip
def test_what_is_no_stranger_that_guesses(why: str, rows: list[S]) -> None:
    assert told(rows) == [], why


def test_memory_is_bounded() -> None:
    home = incident_table()
    slices, feature_rows, scores = tables(guesses(1), home._devices)
    rule = Guesses()
    for one in see(slices, feature_rows, scores, home._lan):
        for k in range(MAX_GUESSING + 10):
            rule.look(f"d{k}", one, -8.0, True)
    assert len(rule._pairs) == MAX_GUESSING


# --- at a real broker ------------------------------------------------------------------

CLIENT = """
import sys, time
import paho.mqtt.client as mqtt
host, password, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
done = []
def connected(client, userdata, flags, reason, properties):
    if reason.is_failure:
        client.disconnect()
    else:
        client.subscribe("a/b")
def subscribed(client, *rest):
    client.disconnect()
for k in range(number):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="c")
    client.username_pw_set("home", password or "x" * (1 + k % 6))
    client.on_connect, client.on_subscribe = connected, subscribed
    client.connect(host, 1883)
    client.loop_forever(retry_first_connection=False)
"""


WAIT = """
import socket, time
for k in range(100):
    try:
        socket.create_connection(("10.81.2.2", 1883), 1).close()
        break
    except OSError:
        time.sleep(0.1)
else:
    raise SystemExit("the broker does not answer")
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with two_lans() as made:
        yield made


@pytest.mark.net
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to capture and to make networks")
def test_a_real_broker_refuses_and_lets_in(gateway: Gateway, tmp_path: Path) -> None:
    accounts, config = tmp_path / "accounts", tmp_path / "mosquitto.conf"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(accounts), "home", "right"],
        check=True, capture_output=True,
    )  # fmt: skip
    config.write_text(f"listener 1883 10.81.2.2\nuser root\npassword_file {accounts}\n")
    gateway.two.start(mosquitto(), "-c", str(config), stderr=subprocess.DEVNULL)
    gateway.one.run(sys.executable, "-c", WAIT)
    reader = Reader(gateway.box, tmp_path, "lan1")
    for password, number in (("", 6), ("right", 4)):
        gateway.one.run(sys.executable, "-c", CLIENT, "10.81.2.2", password, str(number))
    frames, _, _ = reader.finish()
    conns = ConnTable(Lan())
    parts = [conns.step(decode(frames, ignore_checksums=True)).slices, conns.finish().slices]
    found = [clue for part in parts for clue in clues(part, np.arange(len(part))).tolist()]
    assert found.count(REFUSED) == 6
    logins = sum(int(((p.service == b"mqtt") & (p.piece == 0)).sum()) for p in parts)
    assert logins == 10
