"""What the protocols carry: built with scapy once per kind, then patched.

scapy is imported inside the functions, so that only a simulation pays for it.
"""

# ruff: noqa: PLC0415 - scapy comes in where it is used
from __future__ import annotations

from functools import lru_cache
from random import Random
from struct import pack

from guardian.simulate.frames import MSS, ip_bytes, words

RECORD = 11 * MSS - 5
"""Bytes in a bulk TLS record: eleven full segments with its header (TLS allows 16,384)."""


# --- DNS and mDNS -----------------------------------------------------------
@lru_cache(maxsize=4096)
def dns_query(name: str, qtype: str = "A") -> bytes:
    """Return a DNS question with id 0."""
    from scapy.layers.dns import DNS, DNSQR

    return bytes(DNS(id=0, rd=1, qd=DNSQR(qname=name, qtype=qtype)))


@lru_cache(maxsize=4096)
def dns_answer(
    name: str, qtype: str = "A", addresses: tuple[str, ...] = (), ttl: int = 300, rcode: int = 0
) -> bytes:
    """Return a DNS answer with id 0; no addresses make an empty answer or the rcode's error."""
    from scapy.layers.dns import DNS, DNSQR, DNSRR

    records = [DNSRR(rrname=name, type=qtype, ttl=ttl, rdata=a) for a in addresses]
    head = DNS(id=0, qr=1, rd=1, ra=1, rcode=rcode, qd=DNSQR(qname=name, qtype=qtype), an=records)
    return bytes(head)


@lru_cache(maxsize=512)
def mdns_question(service: str) -> bytes:
    from scapy.layers.dns import DNS, DNSQR

    return bytes(DNS(id=0, rd=0, qd=DNSQR(qname=service, qtype="PTR")))


@lru_cache(maxsize=512)
def mdns_announcement(service: str, host: str, port: int, ip: str) -> bytes:
    """Return an mDNS answer that names a service of a host (PTR, SRV, TXT, A or AAAA)."""
    from scapy.layers.dns import DNS, DNSRR, DNSRRSRV

    instance = f"{host}.{service}"
    target = f"{host}.local."
    kind = "AAAA" if ":" in ip else "A"
    records = [
        DNSRR(rrname=service, type="PTR", ttl=4500, rdata=instance),
        DNSRRSRV(rrname=instance, ttl=120, port=port, target=target),
        DNSRR(rrname=instance, type="TXT", ttl=4500, rdata=[b"v=1", b"id=" + host.encode()]),
        DNSRR(rrname=target, type=kind, ttl=120, rdata=ip),
    ]
    return bytes(DNS(id=0, qr=1, aa=1, rd=0, qd=[], an=records))


def with_id(message: bytes, ident: int) -> bytes:
    """Return a DNS message with this id."""
    return pack("!H", ident) + message[2:]


# --- DHCP -------------------------------------------------------------------
@lru_cache(maxsize=1024)
def dhcp(kind: str, mac: bytes, name: str, ip: str, server: str, lease: int = 86_400) -> bytes:
    """Return a BOOTP message of a DHCP kind (discover, offer, request, renew, ack), xid 0."""
    from scapy.layers.dhcp import BOOTP, DHCP

    reply = kind in ("offer", "ack")
    fields: dict[str, object] = {"op": 2 if reply else 1, "chaddr": mac + bytes(10), "xid": 0}
    options: list[object] = [("message-type", "request" if kind == "renew" else kind)]
    if reply:
        fields |= {"yiaddr": ip, "siaddr": server}
        options += [
            ("server_id", server), ("lease_time", lease), ("subnet_mask", "255.255.255.0"),
            ("router", server), ("name_server", server),
        ]  # fmt: skip
    else:
        if kind == "request":
            options += [("requested_addr", ip), ("server_id", server)]
        if kind == "renew":
            fields["ciaddr"] = ip
        options += [("hostname", name.encode()), ("param_req_list", [1, 3, 6, 15, 28, 51])]
    return bytes(BOOTP(**fields) / DHCP(options=[*options, "end"]))


def with_xid(message: bytes, xid: int) -> bytes:
    """Return a DHCP message with this transaction id."""
    return message[:4] + pack("!I", xid) + message[8:]


# --- NTP ----------------------------------------------------------------------
@lru_cache(maxsize=2)
def _ntp(mode: int) -> bytes:
    from scapy.layers.ntp import NTPHeader

    stratum = 0 if mode == 3 else 2
    # scapy would put the clock of this computer into a time that nobody gives.
    return bytes(NTPHeader(version=4, mode=mode, stratum=stratum, orig=0))


def ntp(mode: int, seconds: float) -> bytes:
    """Return an NTP message (mode 3 client, 4 server) sent at Unix time `seconds`.

    The origin time of an answer is that of its question, which is taken for the same.
    """
    stamp = pack("!Q", int((seconds + 2_208_988_800) * 2**32) & (2**64 - 1))
    message = _ntp(mode)
    origin = stamp if mode == 4 else message[24:32]
    return message[:24] + origin + message[32:40] + stamp


# --- MQTT ---------------------------------------------------------------------
@lru_cache(maxsize=512)
def mqtt_connect(client: str, keepalive: int, user: str = "", password: str = "") -> bytes:
    from scapy.contrib.mqtt import MQTT, MQTTConnect

    login: dict[str, object] = {}
    if user:
        login = {
            "usernameflag": 1, "passwordflag": 1, "userlen": len(user), "username": user.encode(),
            "passlen": len(password), "password": password.encode(),
        }  # fmt: skip
    connect = MQTTConnect(
        protoname="MQTT", protolevel=4, cleansess=1, klive=keepalive, clientId=client, **login
    )
    return bytes(MQTT() / connect)


@lru_cache(maxsize=2)
def mqtt_connack(code: int = 0) -> bytes:
    from scapy.contrib.mqtt import MQTT, MQTTConnack

    return bytes(MQTT() / MQTTConnack(retcode=code))


@lru_cache(maxsize=512)
def mqtt_subscribe(topic: str) -> bytes:
    from scapy.contrib.mqtt import MQTT, MQTTSubscribe, MQTTTopicQOS

    return bytes(MQTT(QOS=1) / MQTTSubscribe(msgid=1, topics=[MQTTTopicQOS(topic=topic, QOS=0)]))


MQTT_SUBACK = b"\x90\x03\x00\x01\x00"
MQTT_PINGREQ = b"\xc0\x00"
MQTT_PINGRESP = b"\xd0\x00"


@lru_cache(maxsize=2048)
def mqtt_publish(topic: str, size: int) -> bytes:
    """Return a QoS 0 PUBLISH of a JSON-like value of `size` bytes."""
    from scapy.contrib.mqtt import MQTT, MQTTPublish

    value = (b'{"state":"on","level":' + b"0123456789" * (size // 10 + 1))[: size - 1] + b"}"
    return bytes(MQTT() / MQTTPublish(topic=topic, value=value))


# --- TLS ------------------------------------------------------------------------
@lru_cache(maxsize=2048)
def client_hello(sni: str, size: int) -> bytes:
    """Return a ClientHello record that names a server, padded to about `size` bytes."""
    rng = Random(sni)
    name = sni.encode()
    server_name = pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name
    groups = b"\x00\x0a\x00\x06\x00\x04\x00\x1d\x00\x17"
    signatures = b"\x00\x0d\x00\x08\x00\x06\x04\x03\x08\x04\x04\x01"
    extensions = server_name + groups + signatures
    ciphers = b"\x13\x01\x13\x02\xc0\x2b\xc0\x2f\xc0\x2c\xc0\x30\x00\x9c\x00\x2f"
    fixed = 2 + 32 + 1 + 32 + 2 + len(ciphers) + 2 + 2
    missing = size - fixed - len(extensions) - 9 - 4
    if missing > 0:
        extensions += pack("!HH", 21, missing) + bytes(missing)
    body = (
        b"\x03\x03" + rng.randbytes(32) + b"\x20" + rng.randbytes(32)
        + pack("!H", len(ciphers)) + ciphers + b"\x01\x00"
        + pack("!H", len(extensions)) + extensions
    )  # fmt: skip
    return b"\x16\x03\x01" + pack("!HBBH", len(body) + 4, 1, 0, len(body)) + body


@lru_cache(maxsize=2048)
def server_flight(sni: str, cert_size: int) -> bytes:
    """Return ServerHello, Certificate and ServerHelloDone; cert_size 0 resumes a session."""
    rng = Random(sni)
    hello = b"\x03\x03" + rng.randbytes(32) + b"\x20" + rng.randbytes(32) + b"\xc0\x2f\x00"
    out = b"\x16\x03\x03" + pack("!HBBH", len(hello) + 4, 2, 0, len(hello)) + hello
    if not cert_size:
        return out + FINISHED
    chain = pack("!BH", 0, cert_size) + rng.randbytes(cert_size)
    chain = pack("!BH", 0, len(chain)) + chain
    out += b"\x16\x03\x03" + pack("!HBBH", len(chain) + 4, 11, 0, len(chain)) + chain
    return out + b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00"


FINISHED = b"\x14\x03\x03\x00\x01\x01" + b"\x16\x03\x03\x00\x28" + bytes(range(40))
KEY_EXCHANGE = b"\x16\x03\x03\x00\x46\x10\x00\x00\x42" + bytes(range(66)) + FINISHED
CLOSE_NOTIFY = b"\x15\x03\x03\x00\x1a" + bytes(range(26))


class Pool:
    """Opaque bytes to send: drawn once, sliced for every payload."""

    def __init__(self, seed: str) -> None:
        rng = Random(seed)
        self.data = rng.randbytes(1 << 17)
        self.bulk = _segments(b"\x17\x03\x03" + pack("!H", RECORD), RECORD, self.data)
        self.plain = _segments(b"", 11 * MSS, self.data)

    def record(self, size: int) -> bytes:
        """Return one TLS application record of `size` bytes (at most 16,384)."""
        at = size * 131 % 65536
        return b"\x17\x03\x03" + pack("!H", size) + self.data[at : at + size]

    def bytes(self, size: int) -> bytes:
        """Return up to 65,536 opaque bytes."""
        at = size * 131 % 65536
        return self.data[at : at + size]


def _segments(head: bytes, body: int, data: bytes) -> list[tuple[bytes, int]]:
    """Return 44 full segments with their sums: four runs of head and body bytes."""
    out = []
    for run in range(4):
        whole = head + data[run * 30_000 : run * 30_000 + body]
        for at in range(0, len(whole), MSS):
            piece = whole[at : at + MSS]
            out.append((piece, words(piece)))
    return out


# --- HTTP and SSDP -----------------------------------------------------------------
def http_get(host: str, path: str, agent: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


def http_post(host: str, path: str, agent: str, body: bytes, kind: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def http_reply(size: int, kind: str = "application/json", status: str = "200 OK") -> bytes:
    """Return the head of a reply that announces `size` bytes."""
    return (
        f"HTTP/1.1 {status}\r\nServer: httpd\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {size}\r\nConnection: close\r\n\r\n"
    ).encode()


def ssdp_search(target: str) -> bytes:
    return (
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n"
        f"MX: 2\r\nST: {target}\r\n\r\n"
    ).encode()  # fmt: skip


def ssdp_notify(ip: str, port: int, name: str) -> bytes:
    return (
        "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nCACHE-CONTROL: max-age=1800\r\n"
        f"LOCATION: http://{ip}:{port}/description.xml\r\nNT: upnp:rootdevice\r\n"
        f"NTS: ssdp:alive\r\nSERVER: Linux UPnP/1.0\r\nUSN: uuid:{name}::upnp:rootdevice\r\n\r\n"
    ).encode()


def ssdp_reply(ip: str, port: int, name: str) -> bytes:
    return (
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\n"
        f"LOCATION: http://{ip}:{port}/description.xml\r\nSERVER: Linux UPnP/1.0\r\n"
        f"ST: upnp:rootdevice\r\nUSN: uuid:{name}::upnp:rootdevice\r\n\r\n"
    ).encode()


def ping_body(ident: int, number: int) -> bytes:
    """Return an echo's identifier, sequence number and the usual 56 bytes."""
    return pack("!HH", ident, number & 0xFFFF) + bytes(range(56))


def advertisement(prefix: str, mac: bytes) -> bytes:
    """Return the body of a router advertisement for a /64 prefix."""
    option = b"\x03\x04\x40\xc0" + pack("!III", 86_400, 14_400, 0) + ip_bytes(prefix)
    return b"\x40\x00\x07\x08" + bytes(8) + b"\x01\x01" + mac + option
