"""The hub over MQTT: discovery and states retained, incidents through the outbox.

The daemon calls `step` at each tick; it never waits for the network, which has a thread of
paho's. That thread only puts what happened into a queue. A lost connection is replaced by a new
client, so that the outbox alone decides what is sent again, and in which order. What the hub says
waits in `asked` until the daemon takes it.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import paho.mqtt.client as mqtt

from guardian import discovery
from guardian.boundedclient import MAX_QUEUED, BoundedClient
from guardian.broker import (
    KEEPALIVE_S,
    BrokerError,
    check_broker,
    hear_birth,
    make_client,
    no_connection,
    refusal,
    where,
)
from guardian.config import MqttSettings
from guardian.discovery import DeviceState, GatewayState
from guardian.hubmessages import MAX_HUB_DEVICES, hub_messages, topics_of
from guardian.incidents import IncidentEvent
from guardian.leftovers import MAX_BYTES, Leftovers
from guardian.outbox import Message, encode
from guardian.shownstates import ShownStates
from guardian.store import Store
from guardian.unheard import SETTLE_S, Unheard

__all__ = [
    "MAX_HUB_DEVICES", "BrokerError", "Publisher", "check_broker", "hear_birth", "hub_messages",
    "topics_of",
]  # fmt: skip

log = logging.getLogger("guardian.publish")

GIVE_UP_S = 60.0
"""Seconds after which an attempt that says nothing is given up, and a connection on which messages
are not acknowledged."""

BACKOFF_S = (2.0, 60.0)
"""Seconds between attempts, doubled from the first to the second. The first is above the second
that paho's thread needs to end."""

BIRTH_S = (0.5, 3.0)
"""Seconds within which a random moment is chosen to answer a hub that just started: all its
devices at once would overwhelm it."""

STATE_S = 30.0
"""Seconds between states of which only figures changed; a threat is told at once."""

WINDOW = 100
"""Messages of the outbox that wait for the broker's acknowledgement at a time."""

MAX_ASKED = 50
"""Messages of the hub that wait for the daemon, which takes them each tick; more are dropped."""

MAX_HAPPENED = 1_000
"""Things that wait to be looked at, beyond which messages are dropped as they come: a broker must
not fill our memory while a batch is judged."""

DEAF_S = 3_600.0
"""Seconds for which nothing is asked of a broker that sent too much: what it keeps for us, say a
message of 2 MiB on a topic of the hub, would end each connection, and no incident would be told."""

DISCOVERED = "discovery_prefix"
"""Fact of the database: where the hub was last told of devices."""

LINGER_S = 2.0
"""Seconds that a clean exit waits for the broker's acknowledgements."""


class Publisher:
    """One broker; does nothing while no host is set."""

    def __init__(
        self,
        settings: MqttSettings,
        store: Store,
        *,
        backoff_s: tuple[float, float] = BACKOFF_S,
        birth_s: tuple[float, float] = BIRTH_S,
        state_s: float = STATE_S,
        give_up_s: float = GIVE_UP_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        """Raises ConfigError where the settings cannot be right; connects in `step`."""
        self.topics = topics_of(settings, store.installation)
        self._settings = settings
        self._store = store
        self._backoff_s = backoff_s
        self._birth_s = birth_s
        self._give_up_s = give_up_s
        self._settle_s = settle_s
        self._client: BoundedClient | None = None
        self._happened: SimpleQueue[tuple[mqtt.Client, str, Any]] = SimpleQueue()
        self.connected = False
        self._since = 0.0
        self._retry_at = 0.0
        self._delay = backoff_s[0]
        self._said = ""
        self._birth_at: float | None = None
        self._settled_at = 0.0
        self._unheard = Unheard()
        self._unanswered: set[int] = set()
        self._in_flight: dict[int, int] = {}
        self._acknowledged: list[int] = []
        self._acknowledged_at = 0.0
        self._last_seq = 0
        self._states = ShownStates(self.topics, state_s)
        self._ending: list[BoundedClient] = []
        self._asked: list[tuple[str, bytes]] = []
        self._left: Leftovers | None = None
        self._deaf_until = 0.0
        if self.enabled:
            make_client(settings, "guardian-probe")  # a mistake shows at start, not later

    @property
    def enabled(self) -> bool:
        return bool(self._settings.host)

    @property
    def hidden(self) -> int:
        """Devices that are not shown, since there are too many."""
        return self._states.hidden

    # --- what shall be told --------------------------------------------------

    def announce(self, events: Iterable[IncidentEvent]) -> list[Message]:
        """Return the messages of events, for Store.add; none while no broker is configured."""
        if not self.enabled:
            return []
        made = (discovery.incident(self.topics, event) for event in events)
        return [message for message in made if message is not None]

    def forget(self, keys: Iterable[str]) -> list[Message]:
        """Return the messages, for Store.add, that take devices off the hub."""
        if not self.enabled:
            return []
        keys = list(keys)
        self._states.forget(keys)
        return [message for key in keys for message in discovery.removal(self.topics, key)]

    def newcomer(self, d: DeviceState, seen: float) -> list[Message]:
        """Return the messages, for Store.add, about a device never seen before (epoch seconds)."""
        if not self.enabled:
            return []
        return discovery.newcomer(self.topics, d.key, d.mac, d.ip, d.name, seen)

    def take_asked(self) -> list[tuple[str, bytes]]:
        """Return what the hub said since the last call: (topic, payload), unchecked."""
        asked, self._asked = self._asked, []
        return asked

    def answer(self, payload: dict[str, Any]) -> None:
        """Tell the hub what became of a command, if it is there to hear it."""
        if self.connected and self._client is not None:
            message = Message(self.topics.answer, encode(payload), "event")
            self._publish(message, message.payload)

    def update(self, gateway: GatewayState, devices: Sequence[DeviceState]) -> None:
        """Set what the hub shall show; `step` sends what changed."""
        if not self.enabled:
            return
        self._states.update(gateway, devices, commands=self._settings.commands)

    # --- the connection ------------------------------------------------------

    def step(self, now: int) -> None:
        """Do what is due: connect, take acknowledgements, send. `now` is ns.

        Raises StoreError where the outbox cannot be written.
        """
        if not self.enabled:
            return
        self._take()
        moment = time.monotonic()
        self._keep_up(moment)
        if self._acknowledged:
            # Should it fail, it is the first thing next time: none of these is sent again.
            self._store.outbox.sent(self._acknowledged, now)
            self._acknowledged.clear()
        if self.connected and self._birth_at is None and moment >= self._settled_at:
            for w in self._unheard.take():
                self._publish(w.message, w.payload(now))
            self._send_outbox(now, moment)
        left = self._left
        if self.connected and left is not None and self._states.wanted and left.due(moment):
            self._clear(left)
            self._left = None

    def _keep_up(self, moment: float) -> None:
        """Look after the connection, and show on it how things are."""
        if self._client is None or not self.connected:
            if self._client is not None and moment - self._since > self._give_up_s:
                self._lost("it does not answer")
            if self._client is None and moment >= self._retry_at:
                self._connect(moment)
            return
        if self._unanswered and moment - self._acknowledged_at > self._give_up_s:
            self._lost("it takes messages and acknowledges none")
            return
        if len(self._unanswered) > MAX_QUEUED:
            self._lost("it takes messages and acknowledges few")
            return
        if self._deaf_until and moment >= self._deaf_until:
            self._listen(self._client)
        if self._birth_at is not None and moment >= self._birth_at:
            self._birth_at = None
            self._states.again()
            self._settled_at = moment + self._settle_s
        for topic, payload in self._states.due(moment):
            self._publish(Message(topic, payload, "state", retain=True), payload)

    def _connect(self, moment: float) -> None:
        self._since = moment
        self._join()
        client = self._client = make_client(self._settings, self._client_id())
        client.will_set(self.topics.status, "offline", qos=1, retain=True)
        happened = self._happened
        client.on_connect = lambda c, _u, _f, reason, _p: happened.put((c, "connected", reason))
        client.on_connect_fail = lambda c, _u: happened.put((c, "failed", sys.exc_info()[1]))
        client.on_disconnect = lambda c, _u, _f, reason, _p: happened.put((c, "gone", reason))
        client.on_publish = lambda c, _u, mid, r, _p: happened.put((c, "acknowledged", (mid, r)))
        client.on_message = lambda c, _u, message: (
            happened.put((c, "message", message))
            if happened.qsize() < MAX_HAPPENED and len(message.payload) <= MAX_BYTES
            else None
        )
        client.connect_async(
            self._settings.host, self._settings.port, KEEPALIVE_S, properties=client.promised()
        )
        client.loop_start()

    def _client_id(self) -> str:
        return self._settings.client_id or f"guardian-{self._store.installation}"

    def _take(self) -> None:
        while True:
            try:
                client, what, value = self._happened.get_nowait()
            except Empty:
                break
            if client is not self._client:
                continue  # the last word of a client that was given up
            if what == "connected":
                self._on_connected(client, value)
            elif what == "failed":
                self._lost(no_connection(value))
            elif what == "gone":
                if self._client.too_much:
                    self._deaf_until = time.monotonic() + DEAF_S
                self._lost(self._client.too_much or f"the connection ended ({value})")
            elif what == "acknowledged":
                mid, reason = value
                if reason.is_failure:  # a full queue, say: it is not taken
                    self._lost(f"it does not take messages ({reason})")
                    continue
                self._unanswered.discard(mid)
                seq = self._in_flight.pop(mid, None)
                self._acknowledged_at = time.monotonic()
                if seq is not None:
                    self._acknowledged.append(seq)
            elif what == "message":
                self._heard(value)

    def _heard(self, message: mqtt.MQTTMessage) -> None:
        """Take a message: the hub's birth, or a command for take_asked."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log.warning("a message was heard whose topic is no text: the broker does wrong")
            return
        if topic == self.topics.birth:
            self._unheard.said(bytes(message.payload), time.monotonic(), retained=message.retain)
            if message.payload == b"online" and self._birth_at is None:
                self._birth_at = time.monotonic() + random.uniform(*self._birth_s)
        elif self._left is not None and self._left.mine(message.topic):
            self._left.hear(message.topic, bytes(message.payload))
        elif message.retain:
            # It was said at some time to whoever would come: nobody presses a button so.
            log.warning("a retained command on %r is not obeyed: remove it", topic[:200])
        elif len(self._asked) < MAX_ASKED:
            self._asked.append((topic, bytes(message.payload)))

    def _on_connected(self, client: BoundedClient, reason: Any) -> None:
        if reason.is_failure:
            self._lost(refusal(reason))
            return
        if not self._deaf_until:
            if self._said:
                log.info("the broker at %s is back", where(self._settings))
            self._said = ""
        self._delay = self._backoff_s[0]
        self.connected = True
        self._unheard = Unheard()
        self._settled_at = time.monotonic() + self._settle_s
        client.publish(self.topics.status, "online", qos=1, retain=True)
        if not self._deaf_until:
            self._listen(client)

    def _listen(self, client: BoundedClient) -> None:
        """Ask for what the hub says."""
        self._deaf_until = 0.0
        wanted = [self.topics.birth, *(self.topics.commands if self._settings.commands else ())]
        former = self._store.fact(DISCOVERED) or ""
        self._left = Leftovers(self.topics, time.monotonic(), former)
        client.subscribe([(topic, 1) for topic in (*wanted, *self._left.topics)])

    def _lost(self, why: str) -> None:
        """Give up this client; say so once, and try again later."""
        if self._client is not None:
            self._end(self._client)
        self._client, self.connected, self._left = None, False, None
        self._unanswered.clear()
        self._in_flight.clear()
        self._states.again()
        self._last_seq = 0
        self._retry_at = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, self._backoff_s[1])
        if why != self._said:
            log.warning(
                "the broker at %s: %s; Guardian goes on and keeps incidents for it",
                where(self._settings), why,
            )  # fmt: skip
            self._said = why

    def _end(self, client: BoundedClient) -> None:
        """Let a client go; its thread ends by itself within a second."""
        client.disconnect()
        if not self.connected:
            client.hang_up()
        self._ending.append(client)

    def _clear(self, left: Leftovers) -> None:
        """Take off what an earlier run left of devices and topics that are no longer used."""
        assert self._client is not None
        self._client.unsubscribe(left.topics)
        for topic in left.stale(self._states.wanted):
            log.info("%s was left by an earlier run: taken off", topic)
            self._publish(Message(topic, "", "state", retain=True), "")
        self._store.set_fact(DISCOVERED, self.topics.discovery)
        if left.rival:
            log.warning("another Guardian speaks on %s, too: give each its own prefix in [mqtt]",
                        self.topics.status)  # fmt: skip

    def _send_outbox(self, now: int, moment: float) -> None:
        room = WINDOW - len(self._in_flight)
        waiting = self._store.outbox.pending(self._last_seq, room) if room > 0 else []
        if not waiting:
            return
        self._store.outbox.tried([w.seq for w in waiting if w.message.kind != "state"])
        for w in waiting:
            self._in_flight[self._publish(w.message, w.payload(now))] = w.seq
            self._last_seq = w.seq
            self._unheard.sent(w, moment)
            # A device that was taken off and is back since: what it shows goes out again.
            self._states.again(w.message.topic)

    def _publish(self, message: Message, payload: str) -> int:
        assert self._client is not None
        if not self._unanswered:
            self._acknowledged_at = time.monotonic()
        mid = self._client.publish(message.topic, payload, message.qos, message.retain).mid
        self._unanswered.add(mid)
        return mid

    def close(self, now: int) -> None:
        """Send what waits if the broker is there, say offline, and end the thread."""
        try:
            self._say_goodbye(now)
        finally:
            if self._client is not None:
                self._end(self._client)
            self._client, self.connected = None, False
            self._join()

    def _say_goodbye(self, now: int) -> None:
        deadline = time.monotonic() + LINGER_S
        self._birth_at, self._settled_at = None, 0.0
        if self.connected:
            self.step(now)
        while self.connected and self._in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
            self.step(now)
        if self._client is None or not self.connected:
            return
        said = self._client.publish(self.topics.status, "offline", qos=1, retain=True)
        try:
            said.wait_for_publish(LINGER_S)
        except RuntimeError as error:
            log.debug("the broker went before us: %s", error)

    def _join(self) -> None:
        for client in self._ending:
            client.loop_stop()
            client.hang_up()
        self._ending.clear()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(time.time_ns())
