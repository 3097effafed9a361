"""From facts to words: explanations, advice, the features that weighed most.

Every number comes from the incident's own facts, the device's habits or the bundle's usual
ranges; nothing is guessed, and every text is safe to print.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from guardian import addresses
from guardian.evidence import Ruler
from guardian.facts import Facts, Key
from guardian.featurelist import GROUPS, TEXTS, describe, natural
from guardian.habits import Habits
from guardian.incidents import FeatureEvidence
from guardian.normal import normal
from guardian.phrases import counted, lasting, rate, size, times
from guardian.tables import F32, PROTO_NAMES

TOP_FEATURES = 5
_MIN_RANGE = 0.25
"""Raw units: a feature that hardly varies must not weigh without end."""
_NOT_TELLING = frozenset({"hour", "unknown"})
"""Groups of features that a person would not call evidence."""

PORTS = {
    21: "FTP", 22: "SSH", 23: "telnet", 25: "mail", 53: "DNS", 80: "HTTP", 123: "NTP",
    135: "Windows RPC", 139: "file shares", 443: "HTTPS", 445: "file shares", 1433: "SQL Server",
    1883: "MQTT", 1900: "SSDP", 2323: "telnet", 3306: "MySQL", 3389: "remote desktop",
    5555: "Android debugging", 5900: "VNC", 6667: "IRC", 7547: "router control", 8080: "HTTP",
    8883: "MQTT", 37215: "router control", 52869: "router control",
}  # fmt: skip
"""Names of ports that a person may know."""

RESOLVING = (53, 5353)
"""Ports where the name of a connection is what was asked, not who was called."""

ADVICE = {
    "scan": "Take it off the network or into a guest network, then restart it, change its "
    "password and install its updates. If you ran a network scanner yourself, say that this was "
    "you.",
    "c2": "Take it off the network now: it may be taking orders from outside. Reset it, change "
    "its password and install its updates before it comes back; if it is a service you know, "
    "say that this is fine.",
    "flood": "Unplug it now: it is being used to attack others or is broken. Reset it, change its "
    "password and install its updates before it comes back. If you ran a speed or load test "
    "yourself, say that this was you.",
    "brute-force": "Take it off the network: it is trying passwords on other machines. Reset it, "
    "change its password and install its updates, and check the machines it called for weak "
    "passwords. If it was you, or a program of yours with an old password, say that this was you.",
    "download": "Was this you: an update, a new app? Then say that this was you. If not, take it "
    "off the network, restart it, change its password and look for an update from its maker.",
    "other": "Was this you? If not, take it off the network, restart it, change its password and "
    "install its updates.",
    "unusual": "Was this you: a new app, an update, a visitor? If so, say that it is fine. If not, "
    "watch it for a day.",
}
"""What to do next, by cause."""

ADVICE_ARP = {
    "scan": "Was this you, with a network scanner? Then say so. If not, it looks for its next "
    "victim: take it off the network, restart it, change its password and install its updates.",
    "other": "Take it off the network: it may be reading what other devices send. If it is a "
    "router, a repeater or a filter of yours that is meant to do so, say that this is fine.",
}
"""The same where ARP alone gave it away."""

ADVICE_INBOUND = (
    "Close the port forwarding or UPnP opening to this device in your router, change its password "
    "and install its updates. The other side acts, not this device."
)
ADVICE_LOST = "Look at the connections below and ask whoever uses this device."

REGULAR = 0.25
"""Median deviation of the gaps, by their median, up to which a rhythm is called one."""

_UNSAFE_HOST = re.compile(r"[^A-Za-z0-9._:-]+")


@dataclass(frozen=True)
class Words:
    """What an incident says to a person."""

    explanation: str
    advice: str
    features: tuple[FeatureEvidence, ...]


def words(
    cause: str, name: str, facts: Facts, habits: Habits, ruler: Ruler, *, counter: str = ""
) -> Words:
    """Return the words for an incident.

    counter is the sentence of the plain counter that saw it, empty where a model did.
    """
    if facts.by_arp:
        told = f"{name} {counter} A plain counter, not a model, saw this."
        return Words(told, ADVICE_ARP.get(cause, ADVICE_LOST), ())
    if counter and cause == "unusual":
        told = f"{name} is unlike other devices: {counter} A plain counter, not a model, saw this."
        return Words(told, ADVICE[cause], ())
    own = habits.usual()
    features = top_features(cause, facts, ruler, own)
    parts = [_sentence(cause, name, facts, features)]
    if counter:
        parts.append(f"A plain counter, not a model, saw this: {counter}")
    parts.append(normal(cause, facts, habits, ruler, own) or _pattern(cause, facts, counter))
    advice = ADVICE.get(cause, ADVICE_LOST) if facts.outbound else ADVICE_INBOUND
    return Words(" ".join(p for p in parts if p), advice, features)


# --- sentences ----------------------------------------------------------------


def _pattern(cause: str, facts: Facts, counter: str) -> str:
    """Return what decided where no number alone is beyond the normal: without it, one would ask."""
    if counter or cause == "unusual" or not facts.outbound:
        return ""
    return "No count alone is beyond the normal; the models know the pattern from attacks."


def _sentence(cause: str, name: str, facts: Facts, features: tuple[FeatureEvidence, ...]) -> str:
    if cause == "unusual":
        what = "; ".join(f.text for f in features[:3])
        tail = f" What stands out: {what}." if what else ""
        return f"{name} behaves unlike ordinary devices of a home in {_count(facts)}.{tail}"
    if not facts.outbound:
        return _inbound(cause, name, facts)
    maker = _SENTENCES.get(cause, _other)
    return maker(name, facts) + _asked(facts)


def _scan(name: str, facts: Facts) -> str:
    ports = len(facts.ports)
    if len(facts.peers) <= 3 < ports:
        whom = listed(sorted(addresses.text(*peer) for peer in facts.peers))
        tried = f"{name} tried {counted(facts, ports)} ports of {whom}"
        return f"{tried} {_within(facts)}{_failed(facts)}."
    new = facts.new_peers
    whom = _plural(len(facts.peers), "address", "addresses", facts)
    if new == len(facts.peers):
        whom += " it never called before"
    elif new:
        whom += f", {new:,} of them for the first time,"
    return f"{name} called {whom} {_ports(facts)} {_within(facts)}{_failed(facts)}."


def _c2(name: str, facts: Facts) -> str:
    key = facts.main_key()
    calls = facts.keys[key]
    place = _place(facts, key)
    if 2 * calls < facts.connections:
        whom = _plural(len(facts.peers), "address", "addresses", facts)
        called = f"{name} opened {_count(facts)} to {whom} {_ports(facts)} {_within(facts)}"
        return f"{called}, {_traffic(facts)}; it looks like malware and those who control it."
    if facts.rows > 2 * facts.connections:
        return (
            f"{name} keeps a connection to {place} open ({lasting(facts.longest)} so far), "
            f"{_traffic(facts)}; it looks like a line to whoever controls malware."
        )
    beat = facts.beat(key)
    if beat is None:
        called = f"{name} called {place} {times(calls)}, {_traffic(facts)}"
        return f"{called}; it looks like malware reporting."
    _, middle, deviation = beat
    if deviation <= REGULAR * middle:
        near = "a tenth of a second" if deviation < 0.1 else lasting(deviation)
        rhythm = f"every {lasting(middle)}, give or take {near}"
    else:
        rhythm = f"at irregular times {_within(facts)}"
    return (
        f"{name} calls {place} again and again: {calls:,} times, {rhythm}, "
        f"{_traffic(facts)}; malware that waits for orders calls like this."
    )


def _flood(name: str, facts: Facts) -> str:
    key = facts.main_key()
    answered = ""
    if facts.packets_in * 20 < facts.packets_out:
        answered = ", almost all unanswered"
    if len(facts.peers) > 1:
        whom = f"{counted(facts, len(facts.peers))} addresses"
    elif len(facts.keys) > 1:
        whom = f"{addresses.text(*key[0])} {_ports(facts)}"
    else:
        whom = _place(facts, key)
    whom = whom.removesuffix(",")
    return (
        f"{name} sent {facts.packets_out:,} packets to {whom}, up to {rate(facts.rate())}"
        f"{answered}."
    )


def _brute_force(name: str, facts: Facts) -> str:
    whom = _addresses(facts)
    return (
        f"{name} opened {_count(facts)} to {whom} {_ports(facts)} {_within(facts)}"
        f"{_failed(facts)}; it looks like guessing passwords."
    )


def _download(name: str, facts: Facts) -> str:
    place = _place(facts, facts.main_key())
    new = ", which it never called before" if facts.new_peers == len(facts.peers) == 1 else ""
    return (
        f"{name} fetched {size(facts.got)} from {place}{new}, in {_count(facts)}; it looks like "
        "malware fetching a program."
    )


def _other(name: str, facts: Facts) -> str:
    whom = _addresses(facts)
    return (
        f"{name} behaves as infected devices do: {_count(facts)} with {whom} {_ports(facts)} "
        f"{_within(facts)}{_failed(facts)}."
    )


def _inbound(cause: str, name: str, facts: Facts) -> str:
    whom = _addresses(facts).removesuffix(",")
    kind = {
        "scan": "it looks like somebody searching for open doors",
        "brute-force": "it looks like guessing its password",
        "flood": "it looks like an attack that wants to overload it",
    }.get(cause, "it looks like an attack")
    return f"{whom} called {name} {_ports(facts)} {_within(facts)}: {_count(facts)}; {kind}."


_SENTENCES = {
    "scan": _scan,
    "c2": _c2,
    "flood": _flood,
    "brute-force": _brute_force,
    "download": _download,
}


# --- features -----------------------------------------------------------------


def top_features(
    cause: str, facts: Facts, ruler: Ruler, own: F32 | None
) -> tuple[FeatureEvidence, ...]:
    """Return the features of the strongest row that weighed most.

    For `unusual` the weight is the share of the autoencoder's error. Otherwise it is the share of
    the distance from the usual range, in widths of that range: what was odd about the row, not
    what the network computed.
    """
    best = facts.best
    if best is None:
        return ()
    usual = np.asarray(ruler.usual if own is None else own, dtype=np.float64)
    telling = np.array([GROUPS.get(name, "unknown") not in _NOT_TELLING for name in ruler.features])
    x = np.asarray(best.x, dtype=np.float64)
    if cause == "unusual":
        weight = np.asarray(best.error, dtype=np.float64)
    else:
        low, high = usual[0], usual[2]
        width = np.maximum(high - low, _MIN_RANGE)
        weight = np.maximum(np.maximum(low - x, x - high), 0.0) / width
    weight = np.where(telling & np.isfinite(weight), np.maximum(weight, 0.0), 0.0)
    total = float(weight.sum())
    if total <= 0.0:
        return ()
    order = np.argsort(-weight, kind="stable")[:TOP_FEATURES]
    return tuple(
        _feature(ruler.features[k], float(x[k]), usual[:, k].tolist(), float(weight[k]) / total)
        for k in order.tolist()
        if weight[k] > 0.0
    )


def _feature(name: str, value: float, usual: list[float], weight: float) -> FeatureEvidence:
    low, high = usual[0], usual[2]
    said, from_, to = describe(name, value), describe(name, low), describe(name, high)
    normally = from_ if from_ == to else f"{from_} to {to.removeprefix('by a factor of ')}"
    return FeatureEvidence(
        name=name,
        text=f"{TEXTS[name]}: {said}, usually {normally}",
        value=natural(name, value),
        usual_low=natural(name, low),
        usual_high=natural(name, high),
        weight=weight,
    )


# --- phrases ------------------------------------------------------------------


def _place(facts: Facts, key: Key) -> str:
    """Return a destination: its name where one was seen, else its address, and the port."""
    peer, port, proto = key
    host = safe_host(facts.host(key))
    ip = addresses.text(*peer)
    where = ip if host in ("", ip) or port in RESOLVING else f"{host} ({ip})"
    if PROTO_NAMES.get(proto) not in ("tcp", "udp"):
        return where
    return f"{where} on {_port(port)}"


def _asked(facts: Facts) -> str:
    """Return what was asked for, where it was names."""
    key = facts.main_key()
    host = safe_host(facts.host(key)) if key[1] in RESOLVING else ""
    return f" It asked for names such as {host}." if host else ""


def safe_host(host: str) -> str:
    """Return a host name with nothing in it but what host names have."""
    return _UNSAFE_HOST.sub("", host)[:64]


def _port(port: int) -> str:
    known = PORTS.get(port)
    return f"port {port} ({known})" if known else f"port {port}"


def _ports(facts: Facts) -> str:
    """Return `on port 23 (telnet)`, or by which protocol where there are no ports."""
    protocols = {PROTO_NAMES.get(key[2], "other") for key in facts.keys}
    if not protocols & {"tcp", "udp"}:
        return "by " + (
            "ping or another ICMP message" if protocols == {"icmp"} else "an IP protocol"
        )
    top = sorted(facts.ports, key=lambda port: (-facts.ports[port], port))
    if len(top) == 1:
        return f"on {_port(top[0])}"
    if len(top) <= 3:
        return f"on ports {listed(str(port) for port in top)}"
    return f"on {counted(facts, len(top))} ports, most on {_port(top[0])},"


def _addresses(facts: Facts) -> str:
    """Return how many addresses took part, and which one most where one stands out."""
    text = _plural(len(facts.peers), "address", "addresses", facts)
    top = min(facts.peers, key=lambda peer: (-facts.peers[peer], peer))
    if len(facts.peers) == 1:
        return addresses.text(*top)
    if 4 * facts.peers[top] >= 3 * facts.connections:
        text += f", mostly {addresses.text(*top)},"
    return text


def _within(facts: Facts) -> str:
    span = facts.span
    if span < 1.0:
        return "within a second"
    text = f"within {lasting(span)}"
    if span > 120.0 and facts.minute_peers > 1 and len(facts.peers) > 3:
        text += f" (up to {counted(facts, facts.minute_peers)} in a minute)"
    return text


def _failed(facts: Facts) -> str:
    if facts.connections == 0 or facts.failed * 10 < facts.connections:
        return ""
    if facts.failed == facts.connections:
        return (
            f"; none of the {facts.connections:,} connections was answered"
            if facts.failed > 1
            else "; it was not answered"
        )
    return f"; {facts.failed:,} of {facts.connections:,} connections failed"


def _traffic(facts: Facts) -> str:
    return f"{size(facts.sent)} sent and {size(facts.got)} received in all"


def _count(facts: Facts) -> str:
    return f"{facts.connections:,} connection{'' if facts.connections == 1 else 's'}"


def listed(words: Iterable[str]) -> str:
    """Return words as a list in a sentence: `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _plural(number: int, one: str, many: str, facts: Facts) -> str:
    return f"{counted(facts, number)} {one if number == 1 else many}"
