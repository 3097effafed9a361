"""All that a hub gets to see at a moment, as messages in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from guardian import discovery, entities
from guardian.config import MqttSettings
from guardian.discovery import DeviceState, GatewayState, Models, Topics
from guardian.errors import ConfigError
from guardian.incidents import IncidentEvent
from guardian.outbox import Message, encode

MAX_HUB_DEVICES = 256
"""Devices shown on the hub; a home has tens. Invented MACs must not flood it. Those with an open
incident are shown beyond it."""


def hub_messages(
    topics: Topics,
    gateway: GatewayState,
    devices: Sequence[DeviceState],
    events: Iterable[IncidentEvent],
) -> list[Message]:
    """Return all that a hub would get, in order, for showing it without a broker."""
    made = (discovery.incident(topics, event) for event in events)
    return [
        Message(topics.status, "online", "state", retain=True),
        *(message for message, _ in state_messages(topics, gateway, devices)),
        *(message for message in made if message is not None),
    ]


def topics_of(settings: MqttSettings, installation: str) -> Topics:
    """Return the topics of the settings. Raises ConfigError for a prefix that is no topic."""
    for name, value in (
        ("prefix", settings.prefix),
        ("discovery_prefix", settings.discovery_prefix),
    ):
        if not value or set(value) & set("+#\0") or value.startswith(("/", "$")):
            raise ConfigError(
                f"mqtt.{name} = {value!r} is no topic: write it like guardian or home/guardian"
            )
    return Topics(installation, settings.prefix.rstrip("/"), settings.discovery_prefix.rstrip("/"))


def state_messages(
    topics: Topics,
    gateway: GatewayState,
    devices: Sequence[DeviceState],
    *,
    commands: bool = True,
) -> list[tuple[Message, str]]:
    """Return (message, what makes it urgent) of all retained messages, the gateway's first."""
    out: list[tuple[Message, str]] = []

    def add(made: tuple[str, discovery.Payload], urgency: str) -> None:
        topic, payload = made
        out.append((Message(topic, text := encode(payload), "state", retain=True), urgency or text))

    g = gateway
    add(entities.gateway(topics, g, commands=commands), "")
    add(
        discovery.gateway_state(topics, g),
        f"{g.open_incidents} {g.devices} {g.bundle} {g.budget} {g.told} {g.drill} {g.rules} "
        f"{g.questions}",
    )
    add(discovery.models_state(topics, g.models or Models(g.bundle, g.bundle)), "")
    for d in devices:
        # Building it anew each time would cost a gateway with many devices half a second.
        shown = DeviceState(d.key, d.mac, d.name or d.ip, False, 0.0, "quiet", macs=d.macs)
        topic, text = _described(topics, shown, commands)
        out.append((Message(topic, text, "state", retain=True), text))
        add(
            discovery.device_state(topics, d),
            f"{d.threat} {d.state} {d.snoozed_until} {d.name} {d.macs} {d.maybe} {d.changed}",
        )
    return out


@lru_cache(maxsize=2 * MAX_HUB_DEVICES)
def _described(topics: Topics, d: DeviceState, commands: bool) -> tuple[str, str]:
    """Return (topic, text) of a device's discovery, which its name and MAC make."""
    topic, payload = entities.device(topics, d, commands=commands)
    return topic, encode(payload)
