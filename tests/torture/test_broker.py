"""The broker is away for a day, slow, full, deaf: every incident arrives, in order, marked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guardian.config import MqttSettings
from guardian.const import NS
from guardian.incidents import IncidentEvent
from guardian.outbox import MAX_WAITING, Message, encode
from guardian.publish import Publisher
from guardian.store import Store
from tests.broker import Cutter, broker_in, free_port, listening, until
from tests.test_store import NOW, incident, step
from tests.torture.brokers import BadBroker, Policy

HOUR = 3_600 * NS
TOPIC = "guardian/device/020000000001/incident"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "g.db") as made:
        yield made


def publisher(store: Store, port: int, **settings: Any) -> Publisher:
    mqtt = MqttSettings(host="127.0.0.1", port=port, **settings)
    return Publisher(
        mqtt, store, backoff_s=(0.02, 0.1), birth_s=(0, 0.1), give_up_s=0.5, settle_s=0
    )


def tell(p: Publisher, store: Store, names: list[str], now: int) -> None:
    """Let incidents open, in one step."""
    events = [IncidentEvent("opened", incident(name)) for name in names]
    step(store, events=events, messages=p.announce(events), now=now)


def drive(p: Publisher, condition: Callable[[], Any], what: str, now: int) -> None:
    def once() -> Any:
        p.step(now)
        time.sleep(0.002)
        return condition()

    until(once, what, 60)


@pytest.mark.slow
def test_a_day_without_a_broker_then_a_bad_line(store: Store, tmp_path: Path) -> None:
    """An incident each two minutes for a day, and more messages of other kinds than there is room
    for; then the broker is back behind a line that is cut six times."""
    p = publisher(store, free_port())  # nobody there: refused
    names = [f"i{n}" for n in range(720)]
    others = iter(range(1 << 30))
    for hour in range(24):
        now = NOW + hour * HOUR
        tell(p, store, names[30 * hour : 30 * hour + 30], now)
        plain = (Message("g/e", encode({"n": next(others)}), "event") for _ in range(450))
        step(store, messages=list(plain), now=now + 1)
        p.step(now)
    back = NOW + 24 * HOUR
    assert store.outbox.waiting() == MAX_WAITING
    dropped = 24 * (30 + 450) - MAX_WAITING
    assert store._meta("dropped_messages") == str(dropped)
    lengths = random.Random(7).choices(range(2_000, 120_000), k=6)
    with broker_in(tmp_path) as broker, listening(broker, TOPIC) as hub:
        line = Cutter(broker, lengths)
        p._settings = replace(p._settings, port=line.port)
        drive(p, lambda: not store.outbox.waiting(), "all of it", back)
        until(lambda: hub.heard and hub.heard[-1].json()["id"] == names[-1], "the last")
        p.close(back)
        line.close()
        assert line.cuts >= 3
        heard = [h.json() for h in hub.heard]
    assert list(dict.fromkeys(h["id"] for h in heard)) == names
    assert all(h["late"] is True for h in heard)
    again = [h for n, h in enumerate(heard) if h["id"] in {e["id"] for e in heard[:n]}]
    assert all(h["repeat"] for h in again)


@pytest.mark.parametrize(
    ("version", "policy", "why"),
    [
        ("3.1.1", lambda n: "silent" if 20 <= n < 60 else "take", "acknowledges none"),
        ("5", lambda n: "silent" if 20 <= n < 60 else "take", "acknowledges none"),
        ("3.1.1", lambda n: "close" if n % 31 == 9 else "take", "connection ended"),
        # Before MQTT 5 a broker cannot say that it is full.
        ("5", lambda n: "quota" if 20 <= n < 90 else "take", "Quota exceeded"),
    ],
    ids=["deaf", "deaf-5", "hangs-up", "full"],
)
def test_a_bad_broker_gets_all_in_order(
    store: Store, policy: Policy, why: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"i{n}" for n in range(90)]
    broker = BadBroker(policy)
    try:
        p = publisher(store, broker.port, version=version)
        tell(p, store, names, NOW)
        drive(p, lambda: not store.outbox.waiting(), "all of it", NOW)
        p.close(NOW)
    finally:
        broker.close()
    taken = [payload["id"] for _, payload in broker.taken]
    assert list(dict.fromkeys(taken)) == names
    assert any(why in r.getMessage() for r in caplog.records)
    seen: set[str] = set()
    for _, payload in broker.taken:
        assert payload["id"] not in seen or payload["repeat"] is True
        seen.add(payload["id"])


def test_a_slow_broker_holds_up_nothing(store: Store) -> None:
    """A broker that thinks 20 ms about each message: a step returns at once all the same."""

    def slow(_: int) -> str:
        time.sleep(0.02)
        return "take"

    broker = BadBroker(slow)
    names = [f"i{n}" for n in range(100)]
    longest = 0.0
    try:
        p = publisher(store, broker.port)
        tell(p, store, names, NOW)
        deadline = time.monotonic() + 30
        while store.outbox.waiting():
            assert time.monotonic() < deadline
            begun = time.monotonic()
            p.step(NOW)
            longest = max(longest, time.monotonic() - begun)
            time.sleep(0.005)
        p.close(NOW)
    finally:
        broker.close()
    assert [payload["id"] for _, payload in broker.taken] == names
    assert longest < 1.0
