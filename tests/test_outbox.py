"""The outbox: order, what replaces what, what goes first, late and repeated."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian.const import NS
from guardian.outbox import LATE_NS, Message, Outbox, Waiting, encode
from guardian.store import Store
from tests.test_store import NOW, step


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "g.db") as made:
        yield made


def message(name: str, kind: Any = "incident") -> Message:
    return Message(f"t/{name}", encode({"id": name}), kind, retain=kind == "state")


def names(outbox: Outbox, after: int = 0, limit: int = 1_000) -> list[str]:
    return [w.message.topic[2:] for w in outbox.pending(after, limit)]


def test_order_and_window(store: Store) -> None:
    outbox = store.outbox
    outbox.put((NOW, message(str(i))) for i in range(5))
    assert names(outbox) == ["0", "1", "2", "3", "4"]
    first = outbox.pending(0, 2)
    assert names(outbox, first[-1].seq, 2) == ["2", "3"]
    outbox.sent([first[1].seq], NOW)
    assert names(outbox) == ["0", "2", "3", "4"]


def test_order_numbers_are_never_used_again(store: Store) -> None:
    store.outbox.put([(NOW, message("a", "event"))])
    seq = store.outbox.pending(0, 1)[0].seq
    store.outbox.sent([seq], NOW)
    store.outbox.put([(NOW, message("b", "event"))])
    assert store.outbox.pending(0, 1)[0].seq > seq


def test_a_state_replaces_the_older_one_of_its_topic(store: Store) -> None:
    old, new = Message("s/1", "1", "state", retain=True), Message("s/1", "2", "state", retain=True)
    other = Message("s/2", "1", "state", retain=True)
    store.outbox.put([(NOW, old), (NOW, message("i")), (NOW, other), (NOW, new)])
    waiting = [(w.message.topic, w.message.payload) for w in store.outbox.pending(0, 9)]
    assert waiting == [("t/i", '{"id":"i"}'), ("s/2", "1"), ("s/1", "2")]


def test_incidents_go_last(store: Store) -> None:
    outbox = Outbox(store._db, limit=4)
    kinds = ["event", "incident", "state", "incident", "event", "incident"]
    assert outbox.put((NOW, message(f"{i}{k[0]}", k)) for i, k in enumerate(kinds)) == 2
    assert names(outbox) == ["1i", "3i", "4e", "5i"]
    assert outbox.put([(NOW, message("6i"))]) == 1
    assert names(outbox) == ["1i", "3i", "5i", "6i"]
    assert outbox.put([(NOW, message("7e", "event"))]) == 1  # itself: only incidents wait
    assert names(outbox) == ["1i", "3i", "5i", "6i"]
    assert outbox.put([(NOW, message("8i"))]) == 1
    assert names(outbox) == ["3i", "5i", "6i", "8i"]


@given(
    st.lists(st.tuples(st.sampled_from(["incident", "event", "state"]), st.integers(0, 3))),
    st.integers(1, 6),
)
@pytest.mark.slow
def test_the_rule_of_the_outbox(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[Any, int]], limit: int
) -> None:
    """Against a slow twin: a list, one message at a time."""
    twin: list[tuple[str, str, int]] = []
    with Store(tmp_path_factory.mktemp("db") / "g.db") as store:
        outbox = Outbox(store._db, limit)
        for number, (kind, topic) in enumerate(sent):
            name = f"{kind}{topic}"
            outbox.put([(NOW, Message(name, encode({"n": number}), kind))])
            if kind == "state":
                twin = [t for t in twin if t[:2] != ("state", name)]
            twin.append((kind, name, number))
            if len(twin) > limit:
                plain = [t for t in twin if t[0] != "incident"]
                twin.remove(plain[0] if plain else twin[0])
        found = [json.loads(w.message.payload)["n"] for w in outbox.pending(0, 100)]
    assert found == [n for _, _, n in twin]


def test_late_and_repeat() -> None:
    def sent(kind: Any, after: int, tries: int) -> Any:
        return json.loads(Waiting(1, NOW, tries, message("x", kind)).payload(NOW + after))

    assert sent("incident", LATE_NS, 0) == {"id": "x"}
    assert sent("incident", LATE_NS + 1, 0) == {"id": "x", "late": True}
    assert sent("incident", 0, 1) == {"id": "x", "repeat": True}
    assert sent("event", 2 * LATE_NS, 3) == {"id": "x", "late": True, "repeat": True}
    assert sent("state", 2 * LATE_NS, 3) == {"id": "x"}  # a state is what holds now


def test_tries_survive_a_crash(store: Store, tmp_path: Path) -> None:
    store.outbox.put([(NOW, message("x"))])
    store.outbox.tried([store.outbox.pending(0, 1)[0].seq])
    other = sqlite3.connect(tmp_path / "g.db")
    assert [w.tries for w in Outbox(other).pending(0, 9)] == [1]
    other.close()


def test_sent_incidents_stay_a_week(store: Store) -> None:
    for kind in ("incident", "event"):
        store.outbox.put([(NOW, message(kind, kind))])
    store.outbox.sent([w.seq for w in store.outbox.pending(0, 9)], NOW)
    rows = store._db.execute("SELECT kind, sent FROM outbox").fetchall()
    assert rows == [("incident", NOW)]
    assert store.prune(NOW + 6 * 86_400 * NS) == 0
    assert store.prune(NOW + 8 * 86_400 * NS) == 1


def test_what_was_dropped_is_counted(store: Store) -> None:
    store.outbox = Outbox(store._db, limit=3)
    for i in range(5):
        step(store, messages=[message(str(i))], now=NOW + i)
    assert names(store.outbox) == ["2", "3", "4"]
    assert store._meta("dropped_messages") == "2"


@given(
    st.recursive(
        st.floats() | st.text() | st.none(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_json_that_every_reader_takes(value: Any) -> None:
    text = encode(value)
    text.encode("ascii")
    assert "NaN" not in text.replace('"', "") or isinstance(value, (str, list, dict))
    json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")  # no lone surrogate
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
