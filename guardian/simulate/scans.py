"""Scans and password guessing, as packets in a file: nothing here is ever sent.

As every infection: a habit of the infected device whose rates are all drawn before its
first yield, which waits for its start.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial, outsider
from guardian.simulate.flows import Tcp, who_has
from guardian.simulate.frames import SYN, Way, ip_text
from guardian.simulate.home import Habit, Host, World, public_ip

MAX_SYNS = 60_000
"""A scan ends here whatever its rate and length: files stay small enough to carry."""

WELL_KNOWN = (
    80, 23, 22, 443, 8080, 554, 21, 445, 139, 7547, 8443, 5555, 81, 37215, 49152, 53, 25, 3389,
    1900, 5000, 8000, 8888, 9100, 631, 1883, 5900, 3306, 111, 2323, 8081,
)  # fmt: skip

TELNET = (23, 2_323)
SCANNED = (TELNET, TELNET, TELNET, (22, 2_222), (80, 8_080), (37_215, 52_869), (5_555, 5_555),
           (7_547, 5_358), (445, 139), (81, 8_081))  # fmt: skip
"""What bots look for; training has them all, the demo and the tests telnet."""


def telnet_scan(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Call random addresses on two ports; guess passwords where somebody answers."""
    rate = dial("rate", 0.15, 180)
    seconds = dial("seconds", 30, 1_200)
    answers = dial("answers", 0.001, 0.03)
    refuses = dial("refuses", 0.002, 0.12)
    guesses = dial("guesses", 1.5, 16)
    gap = dial("guess-gap", 0.2, 6)
    other_port = dial("other-port", 0.02, 0.45)
    one_port = dial.k.chance("one-source-port", 0.4, False, True)
    tries = 2 if dial.k.chance("again", 0.3, False, True) else 1
    ports = dial.k.pick("ports", SCANNED, TELNET, TELNET)
    yield 0.0
    own_port = rng.randint(1_025, 60_000)
    end, sent, t = w.now + seconds, 0, w.now
    while t < end and sent < MAX_SYNS:
        peer = public_ip(rng)
        port = ports[1] if rng.random() < other_port else ports[0]
        luck = rng.random()
        if luck < answers:
            attempt = GUESSES.get(port, _http)
            attempt(Tcp(w, d, peer, port, rng), t, 1 + int(rng.expovariate(1 / guesses)), gap)
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


def local_scan(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Sweep the home: ARP for every address, then a list of ports on who is there.

    Some training homes are swept from outside instead: the ports of one device.
    """
    rate = dial("rate", 1.5, 250)
    ports = int(dial("ports", 1, 120))
    inbound = dial.k.chance("inbound", 0.2, False, False)
    wanted = [*WELL_KNOWN, *(p for p in range(1, 1_024) if p not in WELL_KNOWN)][:ports]
    if dial.k.chance("shuffled", 0.5, True, True):
        dial.k.rng.shuffle(wanted)
    yield 0.0
    t = w.now
    if inbound:
        outside = outsider(w, d, public_ip(rng))
        for port in (p for _ in range(3) for p in wanted):
            knock(w, outside, rng, d.ip, port, t)
            t += rng.expovariate(rate)
            yield t
        return
    for last in range(1, 255):
        peer = w.prefix + bytes([last])
        if peer == d.ip:
            continue
        t = who_has(w, d, peer, t) + 0.0002
        host = w.by_ip.get(peer)
        if host is not None and host.since <= t:
            for port in wanted:
                knock(w, d, rng, peer, port, t)
                t += rng.expovariate(rate)
                yield t
        t += rng.expovariate(rate)
        yield t


def knock(w: World, d: Host, rng: Random, peer: bytes, port: int, t: float) -> None:
    """Try a port: a few are open and left at once, most refuse, some say nothing."""
    tcp = Tcp(w, d, peer, port, rng)
    if port in (80, 443, 8080) and rng.random() < 0.5:
        tcp.reset(tcp.open(t, "scan") + 0.001)
    elif rng.random() < 0.8:
        tcp.refused(t, "scan")
    else:
        tcp.dead(t, "scan", 1)


# --- guessing -------------------------------------------------------------------
def ssh_guess(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Guess passwords at some servers, one session after the other.

    Training also has telnet, HTTP and MQTT logins, local victims, and guesses from outside.
    """
    hosts = int(dial("hosts", 1, 60))
    gap = dial("gap", 0.08, 40)
    sessions = int(dial("sessions", 25, 700))
    guesses = dial("guesses", 1, 6)
    port = dial.k.pick("login", (22, 22, 22, 2_222, 23, 80, 8_080, 1_883), 22, 22)
    where = dial.k.pick("where", ("out", "out", "local", "inbound"), "out", "out")
    yield 0.0
    near = [h.ip for h in w.others(d)]
    sources, peers = [d], [public_ip(rng) for _ in range(hosts)]
    if where == "local" and near:
        peers = near[:hosts]
    elif where == "inbound":
        sources, peers = [outsider(w, d, ip) for ip in peers], [d.ip]
    t = w.now
    for number in range(sessions):
        tcp = Tcp(w, sources[number % len(sources)], peers[number % len(peers)], port, rng)
        if rng.random() < 0.04:
            t = tcp.refused(t, "brute-force")
        else:
            t = GUESSES[port](tcp, t, 1 + int(rng.expovariate(1 / guesses)), 0.2)
        # Some tools keep several sessions going at once.
        t = w.now + rng.expovariate(1 / gap) if rng.random() < 0.3 else t + rng.expovariate(1 / gap)
        yield t
        t = w.now


def _telnet(tcp: Tcp, t: float, guesses: int, gap: float) -> float:
    """Guess at a login prompt; the server hangs up at the end, or is left."""
    rng = tcp.rng
    t = tcp.open(t, "brute-force")
    t = tcp.tell(t + 0.05, b"\xff\xfd\x01\xff\xfd\x1f\xff\xfb\x01\xff\xfb\x03")
    t = tcp.send(t + 0.01, b"\xff\xfc\x01\xff\xfc\x1f\xff\xfe\x01\xff\xfe\x03")
    t = tcp.tell(t + 0.1, b"\r\nlogin: ")
    for _ in range(guesses):
        user = b"user"[: rng.randint(2, 4)] + b"\r\n"
        t = tcp.ask(t + gap * (0.5 + rng.random()), user, user + b"Password: ", 0.01)
        word = b"x" * rng.randint(3, 9) + b"\r\n"
        t = tcp.ask(t + gap * 0.5 * rng.random(), word, b"\r\nLogin incorrect\r\nlogin: ", 0.4)
    return tcp.close(t + 0.2, by_server=True) if rng.random() < 0.5 else tcp.reset(t + 0.2)


def _ssh(tcp: Tcp, t: float, guesses: int, gap: float) -> float:
    """Banners, key exchange, a few guesses, hung up."""
    pool, rng = tcp.w.pool, tcp.rng
    t = tcp.open(t, "brute-force")
    t = tcp.tell(t + 0.01, b"SSH-2.0-dropbear_2019.78\r\n")
    t = tcp.send(t + 0.002, b"SSH-2.0-libssh_0.9.6\r\n")
    t = tcp.ask(t, pool.bytes(1_000), pool.bytes(1_080))
    t = tcp.ask(t, pool.bytes(48), pool.bytes(450), 0.02)
    t = tcp.ask(t, pool.bytes(64), pool.bytes(52))
    for _ in range(guesses):
        t = tcp.ask(t + 0.05 * gap, pool.bytes(80 + rng.randrange(5) * 16), pool.bytes(64), 1.2)
    return tcp.close(t + 0.01, by_server=rng.random() < 0.5)


def _http(tcp: Tcp, t: float, guesses: int, gap: float) -> float:
    """Try logins at a web page, or what else answers there."""
    t = tcp.open(t, "brute-force")
    host = ip_text(tcp.peer)
    form = "application/x-www-form-urlencoded"
    for number in range(guesses):
        body = b"user=admin&password=" + b"x" * (4 + number % 6)
        ask = payloads.http_post(host, "/login", "Mozilla/5.0", body, form)
        reply = payloads.http_reply(90, "text/html", "401 Unauthorized") + tcp.w.pool.bytes(90)
        t = tcp.ask(t + 0.2 * gap * tcp.rng.random(), ask, reply, 0.05)
    return tcp.close(t + 0.01, by_server=tcp.rng.random() < 0.5)


def _mqtt(tcp: Tcp, t: float, guesses: int, gap: float) -> float:
    """One login at a broker, refused: MQTT allows one a session."""
    t = tcp.open(t, "brute-force")
    word = "x" * (4 + guesses % 8)
    ask = payloads.mqtt_connect("guess", 60, "admin", word)
    t = tcp.ask(t + 0.01 * gap, ask, payloads.mqtt_connack(5))
    return tcp.close(t + 0.001, by_server=True)


GUESSES: dict[int, Callable[[Tcp, float, int, float], float]] = {
    22: _ssh, 2_222: _ssh, 23: _telnet, 2_323: _telnet, 80: _http, 8_080: _http, 1_883: _mqtt,
}  # fmt: skip
