"""The daemon's side of the hub: what it shows, what it asks for, what becomes of it.

The publisher carries messages and knows nothing of what they mean; here they become commands in
the database, the same that the command line leaves, so that one undoes what the other did.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import replace
from typing import Any, Protocol

from guardian.blind import BlindSpots
from guardian.commands import Command
from guardian.connrows import Scored
from guardian.const import NS
from guardian.devices import Device
from guardian.discovery import DRILL_MAC, DeviceState, GatewayState, Models
from guardian.firedrill import FireDrill
from guardian.hubcommands import Asked, Limit, Refused, read
from guardian.hubwords import effect_said, question, rule_said
from guardian.incidents import IncidentEvent
from guardian.keeper import SHOWN_NS
from guardian.outbox import Message
from guardian.outlets import Outlets
from guardian.pipeline import Pipeline, Step
from guardian.polling import WEEK_NS, Polling
from guardian.publish import Publisher
from guardian.rules import Rule
from guardian.store import Store
from guardian.tables import Conns
from guardian.today import Rates, Today
from guardian.wishes import Allow

log = logging.getLogger("guardian.hub")

AUTHOR = "hub"
"""Who said it, in the commands table."""

WAIT_NS = 10 * NS
"""A new device is told of so long after its first frame: DHCP has named it by then, and the hub
listens to its topic."""

LEARN_NS = 86_400 * NS
"""Nobody is told of devices that show themselves within a day of the first one: all are new."""

MAX_NEW = 20
"""New devices told of in an hour: invented MACs must not ring the phone all night."""

RULES_S = 60.0
"""Seconds between looks at what the user said; sooner after each command."""


class HubParts(Protocol):
    """What the hub works with; one of them may be another at the next step."""

    pipeline: Pipeline
    store: Store
    publisher: Publisher
    polling: Polling
    outlets: Outlets
    """Receivers beside the hub."""


class Laid(Protocol):
    """A bundle that lies ready."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def fault(self) -> str: ...


class ReadyLooker(Protocol):
    """Who knows of bundles laid ready."""

    @property
    def busy(self) -> bool: ...
    def look(self) -> Laid | None: ...


class Hub:
    """What one daemon shows and hears; works without a broker, too, and is then silent."""

    def __init__(self, parts: HubParts, *, utc_offset_s: int = 0) -> None:
        self._parts = parts
        self.drill = FireDrill(parts)
        self.today = Today(utc_offset_s)
        self.blind = BlindSpots()
        self.ready: ReadyLooker | None = None
        """Knows what bundle lies ready; None where none is ever looked for."""
        self._rates = Rates()
        self._limit = Limit()
        self._known: set[str] = set()
        self._young: dict[str, int] = {}
        """Devices first seen a moment ago and not yet told of, with that moment, ns."""
        self._told_new: list[int] = []
        self._home_since = 0
        self._rules: list[Rule] = []
        self._rules_at = -RULES_S
        self._week = (0, 0)
        self.changed = False
        """The hub said something that changes what it shows; who shows it sets this back."""
        self._last_said: list[str] = []
        """Ids of what the hub said that can be taken back, the newest at the end."""

    def begin(self, now: int) -> None:
        """Take up what an earlier run knew; call after each polling.restore."""
        parts = self._parts
        known = parts.pipeline.devices.devices()
        self._known = {d.key for d in known}
        self._home_since = min((d.first_seen for d in known), default=0)
        self.today.restore(parts.store.day_so_far(self.today.begin(now)), now)
        self.drill.begin()
        parts.polling.actions["forget"] = lambda args, _now: self.forget(args["device"])

    # --- the stream -----------------------------------------------------------

    def saw(self, step: Step) -> None:
        """Count what a step brought."""
        self.today.add(step, self._parts.pipeline.devices)
        self.blind.add(step, self._parts.pipeline.devices)
        self.drill.heard(step.events, step.now)
        self._parts.outlets.announce(step.events)

    def states(self, drops: int, now: int) -> tuple[GatewayState, list[DeviceState]]:
        """Return what the hub shall show now."""
        pipeline = self._parts.pipeline
        moment = time.monotonic()
        if moment - self._rules_at >= RULES_S:
            self._look(now, moment)
        counts = pipeline.counts
        self.blind.count(counts, drops, now, [name for name, _ in pipeline.shed()])
        blind = self.blind.seen(now)
        packets, connections = self._rates.add(moment, counts.packets, counts.connections)
        gateway, devices = hub_states(pipeline, drops)
        names = {d.key: d.name for d in devices}
        gateway = replace(
            gateway,
            packets_rate=packets,
            connections_rate=connections,
            blind_spots=blind.spots,
            encrypted_dns=blind.encrypted_dns,
            one_sided=blind.one_sided,
            budget=pipeline.incidents.settings.a_week,
            told=self._week[0],
            held=self._week[1],
            rules=tuple(rule_said(rule, names.get(rule.device, "")) for rule in self._rules),
            questions=tuple(
                question(d.key, d.name, d.maybe, names.get(d.maybe, d.maybe), d.maybe_why)
                for d in devices
                if d.maybe
            ),
            last_drill=self.drill.last / NS,
            drill=self.drill.said,
            models=self._models(),
        )
        snoozed = {r.device: (r.until or 0) for r in self._rules if r.kind == "snooze"}
        since = (now - SHOWN_NS) / NS
        listed = self._parts.polling.keeper.changed()
        changed = {one["key"]: one for one in reversed(listed) if one["at"] >= since}
        return gateway, [
            self._grown(d, snoozed.get(d.key, 0), changed.get(d.key, {}), now) for d in devices
        ]

    def _grown(self, d: DeviceState, until: int, changed: dict[str, Any], now: int) -> DeviceState:
        """Return a device's state with its day, its snooze and its change of habits."""
        connections, size, anomaly = self.today.of(d.key, now)
        return replace(
            d,
            anomaly=anomaly,
            connections=connections,
            bytes=size,
            snoozed_until=until / NS if until > now else 0.0,
            changed=changed.get("at", 0.0),
            changed_what=changed.get("what", ""),
        )

    def _models(self) -> Models:
        """Return the bundle at work and the one laid ready."""
        bundle = self._parts.pipeline.bundle
        installed = version(bundle)
        ready = self.ready.look() if self.ready is not None else None
        if ready is None or self.ready is None:
            return Models(installed, installed, title=bundle.name)
        if ready.fault:
            # What cannot be taken is no update; the summary says why.
            said = f"What lies ready is not taken: {ready.fault}"
            return Models(installed, installed, bundle.name, said)
        return Models(installed, version(ready), ready.name, ready.summary, self.ready.busy)

    def _look(self, now: int, moment: float) -> None:
        """Read what holds and how much of the week's alerts is spent."""
        self._rules, self._rules_at = self._parts.store.rules(now), moment
        since = now - WEEK_NS
        self._week = (len(self._parts.store.told(since)), self._parts.store.held_back(since))

    # --- what happens by itself ---------------------------------------------

    def step(self, now: int) -> list[IncidentEvent]:
        """Do what is due: the end of a drill, what the hub said.

        Return what that changed of incidents. Raises StoreError.
        """
        events = [*self.drill.step(now), *self._obey(now)]
        self._parts.outlets.announce(events)
        return events

    def look_around(self, now: int) -> None:
        """Tell of devices never seen before, and take off those that are forgotten.

        Call now and then: it looks at all devices. Raises StoreError.
        """
        devices = self._parts.pipeline.devices
        here = devices.keys()
        if gone := self._known - here:
            self._known -= gone
            self._gone(sorted(gone), now)
        for key in here - self._known:
            self._known.add(key)
            device = devices.device(devices.index(key))
            first = device.first_seen
            self._home_since = self._home_since or first
            if first - self._home_since >= LEARN_NS and not device.gateway:
                self._young[key] = first
        self._told_new = [at for at in self._told_new if now - at < 3_600 * NS]
        for key in [k for k, first in self._young.items() if now - first >= WAIT_NS]:
            first = self._young.pop(key)
            if key not in here or key == DRILL_MAC or len(self._told_new) >= MAX_NEW:
                continue
            self._told_new.append(now)
            log.info("a new device: %s", key)
            device = devices.device(devices.index(key))
            shown = device_state(self._parts.pipeline, device, threatened=False)
            self._send(self._parts.publisher.newcomer(shown, first / NS), now)

    def _gone(self, keys: list[str], now: int) -> None:
        for key in keys:
            self.today.forget(key)
            self._young.pop(key, None)
            self._known.discard(key)
        self._send(self._parts.publisher.forget(keys), now)

    def _send(self, messages: list[Message], now: int) -> None:
        """Put messages into the outbox."""
        if messages:
            self._parts.store.add(
                records=Conns.empty(), scored=Scored.empty(), messages=messages, now=now
            )

    def forget(self, key: str) -> None:
        """Forget a device: in memory, in the database, on the hub. Raises KeyError for none."""
        found = self._parts.pipeline.devices.find(key)
        if not found:
            raise KeyError(f"no device {key}")
        self._parts.pipeline.devices.forget(found)
        self._parts.store.forget_device(found)
        self._parts.pipeline.incidents.homes.drop(found)
        # The next step sees that it is gone.

    # --- what the hub says ------------------------------------------------------

    def _obey(self, now: int) -> list[IncidentEvent]:
        """Take what the hub said; answer each message on guardian/answer."""
        events: list[IncidentEvent] = []
        for topic, payload in self._parts.publisher.take_asked():
            asked = topic.removeprefix(self._parts.publisher.topics.prefix + "/").removesuffix(
                "/set"
            )
            if not self._limit.take(time.monotonic()):
                if self._limit.refused in (1, 100, 10_000):
                    log.warning("the hub says too much: %d not taken", self._limit.refused)
                self._answer(asked, False, "too many commands: wait a moment")
                continue
            keys = [d.key for d in self._parts.pipeline.devices.devices()]
            try:
                wish = read(self._parts.publisher.topics, topic, payload, keys, now)
                if wish.preview:
                    self._answer(asked, True, self._preview(wish))
                    continue
                command = self._command(wish, now)
            except Refused as refused:
                log.warning("a command of the hub on %r was refused: %s", topic[:200], refused)
                self._answer(asked, False, str(refused))
                continue
            if command is None:
                self._answer(asked, True, "nothing to take back")
                continue
            events += self._do(asked, command, now)
        return events

    def _command(self, wish: Asked, now: int) -> Command | None:
        """Return the command of a wish; None where there is nothing to take back."""
        args = dict(wish.args)
        if wish.kind == "feedback" and wish.last:
            args["incident"] = self._parts.store.last_incident(wish.device, now - WEEK_NS)
            if not args["incident"]:
                raise Refused("the device had no incident within a week")
        if wish.kind == "link" and wish.last:
            guess = self._parts.pipeline.devices.asked.get(wish.device)
            if guess is None:
                raise Refused('nothing is asked of this device: give {"old": "MAC"}')
            args["old"] = guess.old
        if wish.kind == "undo" and wish.last:
            if not self._last_said:
                return None
            args["command"] = self._last_said[-1]
        if wish.kind == "undo" and wish.device:
            rules = self._parts.store.rules(now)
            mine = [r for r in rules if r.kind == "snooze" and r.device == wish.device]
            if not mine:
                return None
            args["command"] = mine[0].id
        return Command(secrets.token_hex(8), now, AUTHOR, wish.kind, args)

    def _do(self, asked: str, command: Command, now: int) -> list[IncidentEvent]:
        self._parts.store.leave(command)
        events = self._parts.polling.poll(now)
        result = self._parts.store.result(command.id)
        if result != "ok":
            self._answer(asked, False, result.removeprefix("refused: "))
            return events
        self._rules_at = -RULES_S  # what holds has changed
        self.changed = True
        undo = command.id if command.kind in ("allow", "snooze", "feedback") else None
        if undo:
            self._last_said = [*self._last_said, undo][-20:]
        if command.kind == "undo":
            self._last_said = [i for i in self._last_said if i != command.args["command"]]
        self._answer(asked, True, "done", undo)
        return events

    def _preview(self, wish: Asked) -> str:
        """Return what an allowance would have changed, in words."""
        args: dict[str, Any] = wish.args
        allow = Allow(
            device=args["device"] or "", peer=args["peer"] or "", cause=args["cause"] or ""
        )
        return effect_said(*self._parts.store.effect(allow))

    def _answer(self, asked: str, ok: bool, said: str, undo: str | None = None) -> None:
        self._parts.publisher.answer({"asked": asked, "ok": ok, "said": said, "undo": undo})


class Versioned(Protocol):
    """A bundle, or what is known of one."""

    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...


def version(bundle: Versioned) -> str:
    """Return a bundle's version as the update entity shows it.

    With its digest, since two of a day have one version; and so that Home Assistant does not
    compare numbers, but offers whatever lies ready, also what is older.
    """
    return f"{bundle.version} ({bundle.digest[:8]})"


def hub_states(pipeline: Pipeline, drops: int) -> tuple[GatewayState, list[DeviceState]]:
    """Return what a pipeline alone knows of what the hub shows."""
    threatened = pipeline.incidents.threatened()
    known = pipeline.devices.devices()
    counts, bundle = pipeline.counts, pipeline.bundle
    gateway = GatewayState(
        packets=counts.packets,
        connections=counts.connections,
        drops=drops,
        unread=counts.malformed + sum(counts.not_understood.values()),
        devices=sum(not d.gateway and d.mac != DRILL_MAC for d in known),
        open_incidents=len(pipeline.incidents.open()),
        bundle=bundle.version,
        macs=tuple(d.mac for d in known if d.gateway and d.mac),
        models=Models(version(bundle), version(bundle), title=bundle.name),
    )
    return gateway, [
        device_state(pipeline, d, threatened=(d.mac or _ip(pipeline, d)) in threatened)
        for d in known
        if not d.gateway
    ]


def _ip(pipeline: Pipeline, device: Device) -> str:
    return pipeline.devices.ref(device.index).ip


def device_state(pipeline: Pipeline, device: Device, *, threatened: bool) -> DeviceState:
    """Return what a pipeline alone knows of a device."""
    ref = pipeline.devices.ref(device.index)
    learning = pipeline.incidents.learning(device.index)
    guess = pipeline.devices.asked.get(device.key)
    return DeviceState(
        key=device.key,
        mac=device.mac,
        name=ref.name,
        threat=threatened,
        score=pipeline.incidents.score(device.index),
        state="alert" if threatened else "learning" if learning else "quiet",
        ip=ref.ip,
        user_name=pipeline.devices.user_name(device.index),
        macs=device.macs,
        maybe=guess.old if guess else "",
        maybe_why=guess.reason if guess else "",
    )
