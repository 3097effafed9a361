"""What leaves the home and should not: steady uploads, names full of data, floods of names.

These are packets in a file: nothing here is ever sent.
"""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial
from guardian.simulate.floods import BREATH_S, MAX_PACKETS
from guardian.simulate.flows import Tcp, resolve, udp_ask
from guardian.simulate.frames import ip_text
from guardian.simulate.home import Habit, Host, World, public_ip

LABEL_CHARS = 60
"""Characters of a name's label that carry data: DNS allows 63."""


def exfiltration(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Upload steadily to one host that was never called before, in one session or several.

    Sizes are gigabytes scaled down to what a test can carry; the speed is a slow uplink's.
    """
    size = dial("size", 6e6, 9e7)
    speed = dial("speed", 4_000, 300_000)
    parts = int(dial("parts", 1, 6.9))
    gap = dial("gap", 1, 120)
    form = dial.k.pick("form", ("tls", "tls", "http", "raw"), "tls", "http")
    named = dial.k.chance("named", 0.5, True, False)
    yield 0.0
    name, peer = "files.dropzone.example", public_ip(rng)
    for _ in range(parts):
        t = w.now
        if named:
            t, peer = resolve(w, d, name, t, rng, 3_600, "other")
        tcp = Tcp(w, d, peer, {"tls": 443, "http": 80, "raw": 9_001}[form], rng)
        t = tcp.open(t, "other")
        amount = int(size / parts * rng.lognormvariate(0, 0.1))
        if form == "tls":
            t = tcp.tls(t, name, 210, 1_900)
            t = tcp.send(t, tcp.records(300))
        elif form == "http":
            kind = "application/octet-stream"
            head = payloads.http_post(name if named else ip_text(peer), "/put", "curl", b"", kind)
            t = tcp.send(t, head.replace(b"Length: 0", b"Length: %d" % amount))
        for at in tcp.bulk(t, amount, True, speed, tls=form == "tls"):
            t = at
            yield t
        t = tcp.tell(t + tcp.rtt, tcp.records(120) if form == "tls" else payloads.http_reply(0))
        if form == "tls":
            tcp.tls_close(t + 0.01)
        else:
            tcp.close(t + 0.01)
        yield t + gap * (0.5 + rng.random())


def dns_exfiltration(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Carry data out slowly in the names that are asked for; the answers say next to nothing."""
    every = dial("every", 0.6, 45)
    jitter = dial("jitter", 0.01, 0.6)
    seconds = dial("seconds", 1_500, 40_000)
    chars = int(dial("chars", 18, 150))
    qtype = dial.k.pick("type", ("A", "TXT", "A"), "A", "TXT")
    yield 0.0
    end, number = w.now + seconds, 0
    domain = f"t{rng.randrange(100)}.rendezvous.example"
    answer = ("0.0.0.0",) if qtype == "A" else ("ok",)
    while w.now < end:
        text = rng.randbytes((chars + 1) // 2).hex()[:chars]
        parts = [text[at : at + LABEL_CHARS] for at in range(0, chars, LABEL_CHARS)]
        name = ".".join((*parts, f"{number:x}", domain))
        ident = rng.getrandbits(16)
        question = payloads.with_id(payloads.dns_query(name, qtype), ident)
        reply = payloads.with_id(payloads.dns_answer(name, qtype, answer, 0), ident)
        think = 0.02 + 0.08 * rng.random()
        said = None if rng.random() < 0.01 else reply
        udp_ask(w, d, w.now, d.resolver, 53, question, said, d.port(rng), "other", think)
        number += 1
        yield w.now + every * max(0.05, 1 + jitter * rng.uniform(-1, 1))


STEM = "aaaaaaaaaaaa"
"""Stands in a question for the random part of a name: each packet patches it."""


def dns_flood(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Ask for names that do not exist as fast as it goes, at the home's resolver or a victim's."""
    rate, seconds = dial("rate", 40, 1_500), dial("seconds", 8, 120)
    answers = dial("answers", 0.05, 0.9)
    at = dial.k.pick("at", ("resolver", "victim"), "resolver", "victim")
    yield 0.0
    peer = d.resolver if at == "resolver" else public_ip(rng)
    there, back, rtt = w.ways(d, peer)
    name = f"{STEM}.victim.example"
    question, refusal = payloads.dns_query(name), payloads.dns_answer(name, rcode=3)
    begin = question.index(STEM.encode())
    t, end, sent = w.now, w.now + seconds, 0
    while t < end and sent < MAX_PACKETS:
        head = rng.randbytes(2)
        stem = rng.randbytes(len(STEM) // 2).hex().encode()
        # Ports below those that devices' own questions come from: no flow is shared with them.
        own_port = rng.randint(1_025, 32_000)
        w.label_flow(t, d, d.ip, own_port, peer, 53, "flood")
        body = head + question[2:begin] + stem + question[begin + len(stem) :]
        w.emit(t, there.udp(own_port, 53, body))
        sent += 1
        if rng.random() < answers:
            body = head + refusal[2:begin] + stem + refusal[begin + len(stem) :]
            w.emit(t + rtt * (1 + rng.random()), back.udp(53, own_port, body))
        t += rng.expovariate(rate)
        if t > w.now + BREATH_S:
            yield t
