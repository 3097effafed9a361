"""What malware does on a device, as packets in a file: nothing here is ever sent.

Each infection is a habit of the infected device. Its rates come from its knobs, or from
the scenario's params by the same names; all are drawn before its first yield, which waits
for its start. Bodies are harmless filler.
"""

# ruff: noqa: PLR0917 - habits take their rates one by one
from __future__ import annotations

from collections.abc import Callable
from random import Random

from guardian.simulate import payloads
from guardian.simulate.flows import Tcp, resolve, who_has
from guardian.simulate.frames import ACK, RST, SYN, Way
from guardian.simulate.home import Habit, Host, World, public_ip
from guardian.simulate.knobs import Knobs

MAX_FLOOD_PACKETS = 120_000
"""A flood ends here whatever its rate and length: files stay small enough to carry."""

MAX_SCAN_SYNS = 60_000

RESERVED_PORTS = (5_034, 48_101, 31_337, 9_555, 16_666, 2_048)
"""Ports of the demo's and the test's malware: training draws none of them."""


class Dial:
    """A rate by name: from the scenario's params, else drawn."""

    def __init__(self, k: Knobs, params: tuple[tuple[str, float], ...]) -> None:
        self.k = k
        self.given = dict(params)
        self.used: set[str] = set()

    def __call__(self, name: str, low: float, high: float) -> float:
        self.used.add(name)
        drawn = self.k.span(name, low, high)
        return self.given.get(name, drawn)

    def port(self, name: str, train: tuple[int, ...], demo: int, test: int) -> int:
        """Return a port; training takes one of `train` or any high one that is not reserved."""
        self.used.add(name)
        high = self.k.rng.randint(1_025, 65_000)
        while high in RESERVED_PORTS:
            high = self.k.rng.randint(1_025, 65_000)
        return int(self.given.get(name, self.k.pick(name, (*train, high, high), demo, test)))


# --- scans and guessing --------------------------------------------------------
def telnet_scan(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Call random addresses on 23 and 2323; guess passwords where somebody answers."""
    rate = dial("rate", 1.5, 160)
    seconds = dial("seconds", 20, 900)
    answers = dial("answers", 0.001, 0.03)
    refuses = dial("refuses", 0.002, 0.08)
    guesses = dial("guesses", 2, 14)
    gap = dial("guess-gap", 0.3, 6)
    other_port = dial("other-port", 0.02, 0.4)
    one_port = dial.k.chance("one-source-port", 0.4, False, True)
    tries = 2 if dial.k.chance("again", 0.3, False, True) else 1
    yield 0.0
    own_port = rng.randint(1_025, 60_000)
    end, sent, t = w.now + seconds, 0, w.now
    while t < end and sent < MAX_SCAN_SYNS:
        peer = public_ip(rng)
        port = 2_323 if rng.random() < other_port else 23
        luck = rng.random()
        if luck < answers:
            _telnet(w, d, rng, peer, port, t, 1 + int(rng.expovariate(1 / guesses)), gap)
        elif luck < answers + refuses:
            Tcp(w, d, peer, port, rng).refused(t, "scan")
        else:
            _syn(w, d, rng, peer, port, t, own_port if one_port else d.port(rng), tries)
        sent += 1
        t += rng.expovariate(rate)
        if t > w.now + 1:
            yield t


def _syn(
    w: World, d: Host, rng: Random, peer: bytes, port: int, t: float, own_port: int, tries: int
) -> None:
    """A SYN into nowhere, without a session's cost."""
    way = Way(d.mac, w.gateway.mac, d.ip, peer, d.ttl, d.wired)
    seq = rng.getrandbits(32)
    w.label(t, d, d.ip, own_port, peer, port, "tcp", "scan")
    for number in range(tries):
        w.emit(t + number * 1.01, way.tcp(own_port, port, seq, 0, SYN, 5_840))


def _telnet(
    w: World, d: Host, rng: Random, peer: bytes, port: int, t: float, guesses: int, gap: float
) -> None:
    """Guess at a login prompt; the server hangs up at the end, or is left."""
    tcp = Tcp(w, d, peer, port, rng)
    t = tcp.open(t, "brute-force")
    t = tcp.tell(t + 0.05, b"\xff\xfd\x01\xff\xfd\x1f\xff\xfb\x01\xff\xfb\x03")
    t = tcp.send(t + 0.01, b"\xff\xfc\x01\xff\xfc\x1f\xff\xfe\x01\xff\xfe\x03")
    t = tcp.tell(t + 0.1, b"\r\nlogin: ")
    for _ in range(guesses):
        user = b"user" + w.pool.bytes(2).hex().encode()[: rng.randint(0, 4)] + b"\r\n"
        t = tcp.ask(t + gap * (0.5 + rng.random()), user, user + b"Password: ", 0.01)
        word = b"x" * rng.randint(3, 9) + b"\r\n"
        t = tcp.ask(t + gap * 0.5 * rng.random(), word, b"\r\nLogin incorrect\r\nlogin: ", 0.4)
    if rng.random() < 0.5:
        tcp.close(t + 0.2, by_server=True)
    else:
        tcp.reset(t + 0.2)


def ssh_guess(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Guess passwords at SSH servers, one session after the other."""
    hosts = int(dial("hosts", 1, 24))
    gap = dial("gap", 0.15, 40)
    sessions = int(dial("sessions", 25, 600))
    local = dial.k.chance("local", 0.25, False, False)
    yield 0.0
    near = [h.ip for h in w.others(d)]
    peers = near[:hosts] if local and near else [public_ip(rng) for _ in range(hosts)]
    t = w.now
    for number in range(sessions):
        tcp = Tcp(w, d, peers[number % len(peers)], 22, rng)
        if rng.random() < 0.04:
            t = tcp.refused(t, "brute-force")
        else:
            t = _ssh(tcp, tcp.open(t, "brute-force"), rng)
        t += rng.expovariate(1 / gap)
        yield t


def _ssh(tcp: Tcp, t: float, rng: Random) -> float:
    """One session: banners, key exchange, a few guesses, hung up."""
    pool = tcp.w.pool
    t = tcp.tell(t + 0.01, b"SSH-2.0-dropbear_2019.78\r\n")
    t = tcp.send(t + 0.002, b"SSH-2.0-libssh_0.9.6\r\n")
    t = tcp.ask(t, pool.bytes(1_000), pool.bytes(1_080))
    t = tcp.ask(t, pool.bytes(48), pool.bytes(450), 0.02)
    t = tcp.ask(t, pool.bytes(64), pool.bytes(52))
    for _ in range(rng.randint(1, 3)):
        t = tcp.ask(t + 0.01, pool.bytes(80 + rng.randrange(5) * 16), pool.bytes(64), 1.2)
    return tcp.close(t + 0.01, by_server=rng.random() < 0.5)


def local_scan(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Sweep the home: ARP for every address, then a list of ports on who is there."""
    rate = dial("rate", 3, 250)
    ports = int(dial("ports", 1, 90))
    well_known = [80, 23, 22, 443, 8080, 554, 21, 445, 139, 7547, 8443, 5555, 81, 37215, 49152]
    wanted = (well_known + [p for p in range(1, 400) if p not in well_known])[:ports]
    if dial.k.chance("shuffled", 0.5, True, True):
        rng.shuffle(wanted)
    yield 0.0
    t = w.now
    for last in range(1, 255):
        peer = w.prefix + bytes([last])
        if peer == d.ip:
            continue
        t = who_has(w, d, peer, t) + 0.0002
        host = w.by_ip.get(peer)
        host = host if host is not None and host.since <= t else None
        for port in wanted if host is not None else ():
            tcp = Tcp(w, d, peer, port, rng)
            if port in (80, 443) and rng.random() < 0.5:
                tcp.reset(tcp.open(t, "scan") + 0.001)
            elif rng.random() < 0.8:
                tcp.refused(t, "scan")
            else:
                tcp.dead(t, "scan", 1)
            t += rng.expovariate(rate)
            yield t
        t += rng.expovariate(rate)
        yield t


# --- command and control -----------------------------------------------------------
def beacon(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Call one host again and again, with a period and jitter."""
    period = dial("period", 4, 1_200)
    jitter = dial("jitter", 0.004, 0.5)
    port = dial.port("port", (443, 80, 6_667, 4_444, 8_888, 1_312, 666), 5_034, 9_555)
    up, down = int(dial("up", 4, 700)), int(dial("down", 4, 700))
    lasts = dial("lasts", 3_600, 172_800)
    form = dial.k.pick(
        "form", ("short", "short", "held", "dead", "http", "tls", "raw-held"), "short", "held"
    )
    named = dial.k.chance("named", 0.2, False, False)
    fails = dial("fails", 0.005, 0.3)
    yield 0.0
    peer = public_ip(rng)
    end = w.now + lasts

    def after(t: float) -> float:
        return t + period * max(0.05, 1 + jitter * rng.uniform(-1, 1))

    while w.now < end:
        t = w.now
        if named:
            t, peer = resolve(w, d, f"c{rng.randrange(3)}.rendezvous.example", t, rng, 600, "c2")
        if form in ("held", "raw-held"):
            yield from _held(w, d, rng, peer, port, (up, down), end, after, form == "held")
            continue
        tcp = Tcp(w, d, peer, port, rng)
        luck = rng.random()
        if form == "dead" or luck < fails * 0.7:
            tcp.dead(t, "c2", rng.randint(1, 3))
        elif luck < fails:
            tcp.refused(t, "c2")
        else:
            _beat(w, tcp, rng, form, up, down, tcp.open(t, "c2"))
        yield after(t)


def _beat(w: World, tcp: Tcp, rng: Random, form: str, up: int, down: int, t: float) -> None:
    if form == "tls":
        t = tcp.tls(t, "update.rendezvous.example", 190, 900)
        t = tcp.ask(t, tcp.records(up), tcp.records(down), 0.02)
        tcp.tls_close(t + 0.001)
        return
    if form == "http":
        request = payloads.http_get("cdn.rendezvous.example", "/gate.php?id=7", "Mozilla/4.0")
        t = tcp.ask(t, request, payloads.http_reply(down, "text/html") + w.pool.bytes(down), 0.03)
    else:
        t = tcp.ask(t, w.pool.bytes(up), w.pool.bytes(down), 0.01)
        if rng.random() < 0.04:  # a command, and what came of it
            t = tcp.tell(t + 0.05, w.pool.bytes(down * 3))
            t = tcp.send(t + 0.3, w.pool.bytes(min(60_000, up * 12)))
    tcp.close(t + 0.001, by_server=rng.random() < 0.3)


def _held(
    w: World, d: Host, rng: Random, peer: bytes, port: int, sizes: tuple[int, int], end: float,
    after: Callable[[float], float], answered: bool,
) -> Habit:  # fmt: skip
    """One long session with keepalives of equal size; it falls and comes back."""
    tcp = Tcp(w, d, peer, port, rng)
    t = tcp.open(w.now, "c2")
    t = tcp.ask(t, w.pool.bytes(sizes[0] + 12), w.pool.bytes(sizes[1]))
    falls = t + rng.expovariate(1 / 7_200)
    while t < min(end, falls):
        yield after(t)
        t = max(t, w.now)
        t = tcp.send(t, w.pool.bytes(sizes[0]), acked=not answered)
        if answered:
            t = tcp.tell(t + tcp.rtt, w.pool.bytes(sizes[1]))
    tcp.reset(t + 0.1, by_server=rng.random() < 0.7)
    yield t + 5 + 20 * rng.random()


# --- download ------------------------------------------------------------------------
def download(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Fetch a binary over HTTP from an odd host and port, perhaps for several processors."""
    size = dial("size", 18_000, 3_000_000)
    rate = dial("speed", 60_000, 1_500_000)
    port = dial.port("port", (80, 80, 8_080, 8_081, 4_040, 1_337), 48_101, 16_666)
    times = int(dial("times", 1, 7.9))
    gap = dial("gap", 0.4, 60)
    yield 0.0
    peer = public_ip(rng)
    for number in range(times):
        tcp = Tcp(w, d, peer, port, rng)
        if rng.random() < 0.05:
            tcp.refused(w.now, "download")
            yield w.now + gap
            continue
        t = tcp.open(w.now, "download")
        amount = int(size * rng.lognormvariate(0, 0.1))
        request = payloads.http_get(f"{peer[0]}.{peer[1]}.{peer[2]}.{peer[3]}:{port}",
                                    f"/bins/filler{number}", "Wget")  # fmt: skip
        t = tcp.ask(t, request, payloads.http_reply(amount, "application/octet-stream"), 0.02)
        for at in tcp.bulk(t, amount, False, rate, tls=False):
            t = at
            yield t
        tcp.close(t + 0.002, by_server=True)
        yield t + gap * (0.5 + rng.random())


# --- floods --------------------------------------------------------------------------
def syn_flood(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Half-open connections to one victim; at first it answers some."""
    rate, seconds = dial("rate", 60, 3_500), dial("seconds", 6, 90)
    port = dial.port("port", (80, 443, 53, 22, 25_565), 8_088, 30_120)
    answers = dial("answers", 0.002, 0.5)
    yield 0.0
    there, back, rtt = w.ways(d, public := public_ip(rng))
    t, end, sent = w.now, w.now + seconds, 0
    while t < end and sent < MAX_FLOOD_PACKETS:
        own_port, seq = rng.randint(1_025, 65_535), rng.getrandbits(32)
        w.label_udp(t, d, d.ip, own_port, public, port, "flood", "tcp")
        w.emit(t, there.tcp(own_port, port, seq, 0, SYN, 512))
        if rng.random() < answers:
            reply = back.tcp(port, own_port, rng.getrandbits(32), (seq + 1) & 0xFFFFFFFF,
                             SYN | ACK, 29_200)  # fmt: skip
            w.emit(t + rtt, reply)
            reset = there.tcp(own_port, port, (seq + 1) & 0xFFFFFFFF, 0, RST, 0)
            w.emit(t + rtt + 0.001, reset)
        sent += 1
        t += rng.expovariate(rate)
        if t > w.now + 0.5:
            yield t


def udp_flood(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Datagrams as fast as it goes to one victim: one port, or any."""
    rate, seconds = dial("rate", 60, 3_500), dial("seconds", 6, 90)
    size = int(dial("size", 24, 1_400))
    port = dial.port("port", (80, 53, 123, 27_015), 31_337, 2_048)
    spread = dial.k.chance("any-port", 0.4, False, True)
    yield 0.0
    peer = public_ip(rng)
    there, _, _ = w.ways(d, peer)
    body, own_port = w.pool.bytes(size), d.port(rng)
    t, end, sent = w.now, w.now + seconds, 0
    while t < end and sent < MAX_FLOOD_PACKETS:
        if spread:
            own_port, port = rng.randint(1_025, 65_535), rng.randint(1, 65_535)
        w.label_udp(t, d, d.ip, own_port, peer, port, "flood")
        w.emit(t, there.udp(own_port, port, body))
        sent += 1
        t += rng.expovariate(rate)
        if t > w.now + 0.5:
            yield t


KINDS = {
    "telnet-scan": telnet_scan,
    "local-scan": local_scan,
    "ssh-guess": ssh_guess,
    "beacon": beacon,
    "download": download,
    "syn-flood": syn_flood,
    "udp-flood": udp_flood,
}
