"""A hub that is away while the broker is there misses nothing, and hears nothing twice for long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardian.outbox import Message, Waiting
from guardian.store import Store
from guardian.unheard import MAX_UNHEARD, UNSURE_S, Unheard
from tests.broker import Broker, Listener, broker_in, listening, until
from tests.test_discovery import DEVICE, GATEWAY
from tests.test_publish import CONFIG, EVENTS, announce, drive, ids, publisher
from tests.test_store import NOW

MINUTE = 60 * 10**9


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with broker_in(tmp_path) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "g.db") as made:
        yield made


def says(hub: Listener, word: str, *, retain: bool = False) -> None:
    hub.client.publish("homeassistant/status", word, qos=1, retain=retain).wait_for_publish(5)


def test_what_a_late_hub_missed_is_said_again_and_once(broker: Broker, store: Store) -> None:
    """After a power cut: broker and Guardian are back, Home Assistant comes a minute later."""
    announce(p := publisher(broker.settings(), store), store, "i1")
    announce(p, store, "i2")
    p.update(GATEWAY, [DEVICE])
    drive(p, lambda: p.connected and not store.outbox.waiting(), "the broker has them")
    with listening(broker, "guardian/#") as hub:
        says(hub, "online")
        drive(p, lambda: len(hub.on(EVENTS)) == 2, "both again", NOW + 2 * MINUTE)
        assert ids(hub.on(EVENTS)) == ["i1", "i2"]
        assert all(h.json()["repeat"] and h.json()["late"] for h in hub.on(EVENTS))
        announce(p, store, "i3")
        drive(p, lambda: len(hub.on(EVENTS)) == 3, "a third")
        assert "repeat" not in hub.on(EVENTS)[2].json()
        for word in ("online", "offline", "online"):
            says(hub, word)
        drive(p, lambda: hub.heard[-1].topic.endswith("/state"), "it is shown all again")
        announce(p, store, "i4")
        drive(p, lambda: len(hub.on(EVENTS)) == 4, "a fourth, and no third again")
        assert ids(hub.on(EVENTS))[2:] == ["i3", "i4"]
        p.close(NOW)


def test_what_opens_while_the_hub_restarts_is_said_when_it_is_back(
    broker: Broker, store: Store
) -> None:
    p = publisher(broker.settings(), store)
    with listening(broker, EVENTS) as hub:
        announce(p, store, "heard")
        drive(p, lambda: hub.heard, "the hub is there")
        says(hub, "offline")
        drive(p, lambda: p._unheard._hub is False, "it goes")
    announce(p, store, "missed")
    drive(p, lambda: not store.outbox.waiting(), "nobody listens")
    with listening(broker, EVENTS) as hub:
        says(hub, "online")
        drive(p, lambda: hub.heard, "what it missed")
        assert ids(hub.heard) == ["missed"]
        p.close(NOW)


def test_a_birth_that_the_broker_keeps_is_no_news(broker: Broker, store: Store) -> None:
    with listening(broker, EVENTS) as hub:
        says(hub, "online", retain=True)
        p = publisher(broker.settings(), store)
        announce(p, store, "i1")
        drive(p, lambda: hub.heard, "heard")
        drive(p, lambda: p._birth_at is None, "the birth is answered")
        time.sleep(0.2)
        p.step(NOW)
        assert ids(hub.heard) == ["i1"]
        p.close(NOW)


def test_a_device_is_described_a_moment_before_its_first_event(
    broker: Broker, store: Store
) -> None:
    with listening(broker) as hub:
        p = publisher(broker.settings(), store, settle_s=0.5)
        announce(p, store, "i1")
        p.update(GATEWAY, [DEVICE])
        drive(p, lambda: hub.on(CONFIG), "described")
        described = time.monotonic()
        drive(p, lambda: hub.on(EVENTS), "told")
        assert time.monotonic() - described > 0.3
        announce(p, store, "i2")
        p.close(NOW)  # which waits for nothing
        until(lambda: len(hub.on(EVENTS)) == 2, "a clean exit sends what there is")


def test_no_more_is_kept_than_a_hub_would_want() -> None:
    def waiting(seq: int, kind: str = "incident") -> Waiting:
        return Waiting(seq, 0, 0, Message("t", "{}", kind))  # type: ignore[arg-type]

    one = Unheard()
    one.sent(waiting(0, "state"), 0.0)
    for seq in range(1, 2 * MAX_UNHEARD + 1):
        one.sent(waiting(seq), float(seq))
    assert one.take() == []  # nobody came
    one.said(b"online", UNSURE_S + 2 * MAX_UNHEARD - 10, retained=False)
    assert [w.seq for w in one.take()] == list(range(2 * MAX_UNHEARD - 10, 2 * MAX_UNHEARD + 1))
    one.said(b"offline", 0.0, retained=False)
    one.sent(waiting(1), 0.0)
    one.said(b"online", 100 * UNSURE_S, retained=False)
    assert [(w.seq, w.tries) for w in one.take()] == [(1, 1)]
