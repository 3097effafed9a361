"""What Home Assistant is shown: device-based discovery, one retained message per device.

docs/hub.md lists the entities as a real Home Assistant showed them.
"""

from __future__ import annotations

from typing import Any

import guardian
from guardian.const import MAX_NAME
from guardian.discovery import (
    EVENT_TYPES,
    STATES,
    DeviceState,
    GatewayState,
    Payload,
    Topics,
)

MAX_BUDGET = 50
"""Alerts a week that the hub's number goes up to; the settings take more."""

_RISING: Payload = {"state_class": "total_increasing", "entity_category": "diagnostic"}
_HIDDEN: Payload = {"entity_category": "diagnostic", "enabled_by_default": False}
"""Figures that change all the time: for who wants them, not for everyone's history."""

_CHANGED = "{{ {'changed': value_json.changed, 'changed_what': value_json.changed_what} | tojson }}"
"""That a device changed its habits is no alert, and told where one looks for how it is."""


def device(topics: Topics, d: DeviceState, *, commands: bool = True) -> tuple[str, Payload]:
    """Return (topic, payload) of the discovery message of a device.

    Without `commands` there is nothing to press: the hub only looks.
    """
    object_id = topics.device_id(d.key)
    described: Payload = {
        "ids": [object_id],
        "name": d.name or d.ip or d.key,
        "via_device": topics.gateway_id,
    }
    if d.mac:
        described["cns"] = [["mac", mac] for mac in (d.mac, *d.macs)]
    parts = _device_shows(topics, d, object_id)
    if commands:
        parts |= _device_takes(topics, d, object_id)
    return topics.config(object_id), {
        "dev": described,
        "o": _origin(),
        "avty": [_availability(topics)],
        "cmps": parts,
    }


def _device_shows(topics: Topics, d: DeviceState, object_id: str) -> Payload:
    """Return the parts that tell of a device."""
    state = topics.state(d.key)

    def part(platform: str, key: str, name: str | None, **more: Any) -> Payload:
        return _part(
            object_id, platform, key, name,
            state_topic=state, value_template=_template(key), **more,
        )  # fmt: skip

    return {
        "threat": part(
            "binary_sensor", "threat", None,
            device_class="safety", json_attributes_topic=state,
            json_attributes_template="{{ {'ip': value_json.ip, 'mac': value_json.mac} | tojson }}",
        ),
        "score": part(
            "sensor", "score", "Threat score",
            state_class="measurement", suggested_display_precision=2, icon="mdi:gauge",
        ),
        "anomaly": part(
            "sensor", "anomaly", "Anomaly score",
            state_class="measurement", suggested_display_precision=2, icon="mdi:chart-bell-curve",
        ),
        "incident": _part(
            object_id, "event", "incident", "Last incident",
            state_topic=topics.incident(d.key), event_types=list(EVENT_TYPES),
            icon="mdi:shield-alert",
        ),
        "new": _part(
            object_id, "event", "new", "Seen for the first time",
            state_topic=topics.new_device(d.key), event_types=["new"], icon="mdi:new-box",
            entity_category="diagnostic",
        ),
        "state": part(
            "sensor", "state", "State",
            device_class="enum", options=list(STATES), icon="mdi:shield-home",
            json_attributes_topic=state, json_attributes_template=_CHANGED,
        ),
        "connections": part(
            "sensor", "connections", "Connections today",
            state_class="total_increasing", icon="mdi:lan-connect", **_HIDDEN,
        ),
        "bytes": part(
            "sensor", "bytes", "Bytes today",
            state_class="total_increasing", device_class="data_size", unit_of_measurement="B",
            suggested_display_precision=0, **_HIDDEN,
        ),
    }  # fmt: skip


def _device_takes(topics: Topics, d: DeviceState, object_id: str) -> Payload:
    """Return the parts by which the hub says something of a device."""
    state = topics.state(d.key)

    def button(key: str, name: str, icon: str, **more: Any) -> Payload:
        topic = topics.device_set(d.key, key)
        return _button(object_id, key, name, topic, icon, **more)

    return {
        "snooze": _part(
            object_id, "switch", "snooze", "Snooze",
            state_topic=state, value_template=_template("snooze"),
            command_topic=topics.device_set(d.key, "snooze"), icon="mdi:bell-sleep",
        ),
        "fine": button("fine", "This was fine", "mdi:thumb-up"),
        "bad": button("bad", "This is bad", "mdi:thumb-down"),
        "name": _part(
            object_id, "text", "name", "Name",
            state_topic=state, value_template=_template("name"),
            command_topic=topics.device_set(d.key, "name"), min=0, max=MAX_NAME,
            entity_category="config", icon="mdi:rename",
        ),
        "forget": button(
            "forget", "Forget", "mdi:delete", entity_category="config", enabled_by_default=False
        ),
    }  # fmt: skip


def gateway(topics: Topics, g: GatewayState, *, commands: bool = True) -> tuple[str, Payload]:
    """Return (topic, payload) of the discovery message of Guardian itself."""
    object_id = topics.gateway_id
    # Availability stands in each part and not above them, since `running` must show `off` while
    # Guardian is away, not `unavailable`.
    described: Payload = {
        "ids": [object_id],
        "name": "Guardian",
        "mdl": "Guardian of the home network",
        "sw": guardian.__version__,
    }
    if g.macs:
        described["cns"] = [["mac", mac] for mac in g.macs]
    parts = _gateway_shows(topics, object_id)
    if commands:
        parts |= _gateway_takes(topics, object_id)
    parts["models"] = _models(topics, object_id, commands=commands)
    return topics.config(object_id), {"dev": described, "o": _origin(), "cmps": parts}


def _gateway_shows(topics: Topics, object_id: str) -> Payload:
    """Return the parts that tell of Guardian itself."""

    def figure(key: str, name: str, icon: str, **more: Any) -> Payload:
        return _part(
            object_id, "sensor", key, name,
            state_topic=topics.gateway, value_template=_template(key),
            availability=[_availability(topics)], icon=icon, **more,
        )  # fmt: skip

    def listed(key: str) -> Payload:
        return {
            "json_attributes_topic": topics.gateway,
            "json_attributes_template": f"{{{{ {{'{key}': value_json.{key}}} | tojson }}}}",
        }

    now: Payload = {"state_class": "measurement"}
    each: Payload = now | {"entity_category": "diagnostic", "suggested_display_precision": 1}
    return {
        "running": _part(
            object_id, "binary_sensor", "running", "Running",
            device_class="connectivity", state_topic=topics.status,
            payload_on="online", payload_off="offline", entity_category="diagnostic",
        ),
        "open_incidents": figure("open_incidents", "Open incidents", "mdi:shield-alert", **now),
        "devices": figure("devices", "Devices", "mdi:devices", **now),
        "new_device": _part(
            object_id, "event", "new_device", "New device",
            state_topic=topics.newcomers, event_types=["new"], icon="mdi:new-box",
            availability=[_availability(topics)],
        ),
        "blind_spots": figure(
            "blind_spots", "Blind spots", "mdi:eye-off", **now, **listed("blind")
        ),
        "drops": figure("drops", "Dropped packets", "mdi:package-variant-remove", **_RISING),
        "encrypted_dns": figure(
            "encrypted_dns", "Devices with encrypted DNS", "mdi:dns",
            **now, entity_category="diagnostic",
        ),
        "one_sided": figure(
            "one_sided", "Connections seen half", "mdi:call-split",
            unit_of_measurement="%", **each,
        ),
        "packets_rate": figure(
            "packets_rate", "Packets per second", "mdi:speedometer",
            unit_of_measurement="packets/s", **each, enabled_by_default=False,
        ),
        "connections_rate": figure(
            "connections_rate", "Connections per second", "mdi:speedometer-slow",
            unit_of_measurement="connections/s", **each, enabled_by_default=False,
        ),
        "packets": figure(
            "packets", "Packets", "mdi:package-variant", **_RISING, enabled_by_default=False
        ),
        "connections": figure(
            "connections", "Connections", "mdi:lan-connect", **_RISING, enabled_by_default=False
        ),
        "told": figure(
            "told", "Alerts this week", "mdi:bell", **now,
            json_attributes_topic=topics.gateway,
            json_attributes_template="{{ {'held_back': value_json.held} | tojson }}",
        ),
        "rules": figure("rules", "What you said", "mdi:account-voice", **now, **listed("said")),
        "questions": figure(
            "questions", "Questions", "mdi:help-circle", **now, **listed("asked")
        ),
        "last_drill": figure(
            "last_drill", "Last drill", "mdi:fire-alert", device_class="timestamp",
            **listed("drill"), entity_category="diagnostic",
        ),
        "bundle": figure("bundle", "Models in use", "mdi:brain", entity_category="diagnostic"),
    }  # fmt: skip


def _gateway_takes(topics: Topics, object_id: str) -> Payload:
    """Return the parts by which the hub says something to Guardian."""
    there: Payload = {"availability": [_availability(topics)]}
    return {
        "drill": _button(
            object_id, "drill", "Fire drill", topics.gateway_set("drill"), "mdi:fire-alert", **there
        ),
        "undo": _button(
            object_id, "undo", "Take back the last word", topics.gateway_set("undo"), "mdi:undo",
            **there,
        ),
        "budget": _part(
            object_id, "number", "budget", "Alerts a week",
            state_topic=topics.gateway, value_template=_template("budget"),
            command_topic=topics.gateway_set("budget"), min=0, max=MAX_BUDGET, step=1, mode="box",
            entity_category="config", icon="mdi:bell-cog", **there,
        ),
    }  # fmt: skip


def _models(topics: Topics, object_id: str, *, commands: bool) -> Payload:
    """Return the update entity; without commands it only tells."""
    more: Payload = {"availability": [_availability(topics)], "entity_category": "diagnostic"}
    if commands:
        more |= {
            "command_topic": topics.gateway_set("models"),
            "payload_install": "INSTALL",
            "entity_category": "config",
        }
    return _part(object_id, "update", "models", "Models", state_topic=topics.models, **more)


def _origin() -> Payload:
    return {"name": "Guardian", "sw": guardian.__version__}


def _availability(topics: Topics) -> Payload:
    return {"topic": topics.status}


def _template(key: str) -> str:
    return f"{{{{ value_json.{key} }}}}"


def _button(
    object_id: str, key: str, name: str, topic: str, icon: str, **more: Any
) -> Payload:  # fmt: skip
    return _part(
        object_id, "button", key, name,
        command_topic=topic, payload_press="PRESS", icon=icon, **more,
    )  # fmt: skip


def _part(object_id: str, platform: str, key: str, name: str | None, **more: Any) -> Payload:
    return {
        "p": platform,
        "unique_id": f"{object_id}_{key}",
        "default_entity_id": f"{platform}.{object_id}_{key}",
        "name": name,
        **more,
    }
