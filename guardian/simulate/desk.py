"""Somebody at work on a computer: sessions with machines near and far that no thing has."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial
from guardian.simulate.flows import Tcp, resolve, udp_ask
from guardian.simulate.home import Habit, Host, World, public_ip

SCREENS = (5_900, 5_901, 3_389, 6_900)


def desk_work(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """One task after the other: files by FTP with a connection for each, a screen from afar, a
    shell, mail on several ports, a printer, a call by UDP, an odd server's port."""
    pause = dial("pause", 2, 300)
    files = int(dial("files", 1, 30))
    keys = int(dial("keys", 20, 600))
    minutes = dial("minutes", 3, 180)
    typo = dial("fails", 0.01, 0.25)
    yield 0.0
    desk = _Desk(w, d, rng, files, keys, typo)
    tasks = (desk.ftp, desk.screen, desk.shell, desk.mail, desk.printing, desk.call, desk.odd,
             desk.pages)  # fmt: skip
    end = w.now + 60 * minutes
    while w.now < end:
        yield from rng.choice(tasks)()
        yield w.now + pause * (0.2 + 1.6 * rng.random())


@dataclass(frozen=True)
class _Desk:
    w: World
    d: Host
    rng: Random
    files: int
    keys: int
    typo: float
    """Chance that something is mistyped or does not answer."""

    def _peer(self, near: float) -> bytes:
        w, d, rng = self.w, self.d, self.rng
        others = w.others(d)
        if others and rng.random() < near:
            return rng.choice(others).ip
        return w.cloud(f"server{rng.randrange(6)}.work.example")

    def _lines(self, tcp: Tcp, t: float, count: int) -> float:
        w, rng = self.w, self.rng
        for _ in range(count):
            ask, answer = rng.randint(6, 40), rng.randint(20, 120)
            t = tcp.ask(t, w.pool.bytes(ask), w.pool.bytes(answer), 0.01)
        return t

    def ftp(self) -> Habit:
        w, d, rng = self.w, self.d, self.rng
        peer = self._peer(0.4)
        control = Tcp(w, d, peer, 21, rng)
        t = control.tell(control.open(w.now), w.pool.bytes(60))
        t = self._lines(control, t, 4)
        for _ in range(rng.randint(1, self.files)):
            t = self._lines(control, t, 2)
            data = Tcp(w, d, peer, rng.randint(1_025, 65_000), rng)
            if rng.random() < self.typo / 3:
                t = data.dead(t, tries=2)
            else:
                t, up = data.open(t), rng.random() < 0.3
                size = int(3_000 * rng.lognormvariate(1.5, 1.6))
                yield from data.bulk(t, size, up, 2e6, tls=False)
                t = data.close(w.now, by_server=not up)
            t += 0.05 + rng.random() ** 3
            yield t
        control.close(self._lines(control, t, 1))

    def screen(self) -> Habit:
        w, d, rng = self.w, self.d, self.rng
        tcp = Tcp(w, d, self._peer(0.7), rng.choice(SCREENS), rng)
        if rng.random() < self.typo:
            tcp.refused(w.now)
            return
        t = self._lines(tcp, tcp.open(w.now), 5)
        for _ in range(self.keys):
            t = tcp.ask(t, w.pool.bytes(10), w.pool.bytes(min(9_000, rng.randint(40, 2_500))), 0.02)
            yield t + 0.02 + 0.5 * rng.random() ** 3
            t = max(t, w.now)
        tcp.close(t)

    def shell(self) -> Habit:
        w, d, rng = self.w, self.d, self.rng
        peer = self._peer(0.5)
        for _ in range(1 + (rng.random() < self.typo) * rng.randint(1, 2)):  # a password mistyped
            tcp = Tcp(w, d, peer, 22, rng)
            t = tcp.ask(tcp.open(w.now), w.pool.bytes(40), w.pool.bytes(40))
            t = self._lines(tcp, tcp.ask(t, w.pool.bytes(1_500), w.pool.bytes(1_100)), 5)
            yield t + 1 + 3 * rng.random()
            t = max(t, w.now)
        for _ in range(self.keys):
            t = tcp.ask(t, w.pool.bytes(36), w.pool.bytes(rng.choice((36, 36, 80, 700))))
            yield t + 0.05 + 8 * rng.random() ** 6
            t = max(t, w.now)
        tcp.close(t)

    def mail(self) -> Habit:
        w, d, rng = self.w, self.d, self.rng
        for port in rng.sample((993, 587, 143, 465, 995), rng.randint(1, 3)):
            t, peer = resolve(w, d, f"mail{port}.work.example", w.now, rng)
            for _ in range(rng.randint(1, 4)):
                tcp = Tcp(w, d, peer, port, rng)
                if rng.random() < self.typo / 2:
                    t = tcp.refused(t)
                    continue
                t = self._lines(tcp, tcp.open(t), rng.randint(4, 14))
                t = tcp.close(tcp.ask(t, w.pool.bytes(60), w.pool.bytes(rng.randint(200, 40_000))))
            yield t + rng.random()

    def printing(self) -> Habit:
        w, d, rng = self.w, self.d, self.rng
        others = w.others(d)
        if not others:
            return
        peer, port = rng.choice(others).ip, rng.choice((631, 9_100, 515))
        for _ in range(rng.randint(1, 6)):
            tcp = Tcp(w, d, peer, port, rng)
            if rng.random() < self.typo:
                t = tcp.dead(w.now)
            else:
                t = self._lines(tcp, tcp.open(w.now), 2)
                yield from tcp.bulk(t, rng.randint(5_000, 300_000), True, 1e6, tls=False)
                t = tcp.close(w.now)
            yield t + 0.5 + 5 * rng.random()

    def call(self) -> Habit:
        w, d, rng = self.w, self.d, self.rng
        own, peer, port = d.port(rng), public_ip(rng), rng.randint(1_025, 65_000)
        for number in range(rng.randint(2, 8)):  # looks for a way through
            stun = w.cloud(f"stun{number}.call.example")
            said = None if rng.random() < 0.3 else w.pool.bytes(60)
            udp_ask(w, d, w.now, stun, 3_478, w.pool.bytes(28), said, own)
            yield w.now + 0.05 + 0.2 * rng.random()
        end, size = w.now + rng.uniform(5, 60), rng.randint(60, 900)
        while w.now < end:
            for k in range(10):
                udp_ask(
                    w, d, w.now + 0.03 * k, peer, port, w.pool.bytes(size), w.pool.bytes(size), own
                )
            yield w.now + 0.3

    def pages(self) -> Habit:
        """A page of many hosts, several sessions to each, some of them held open for a while."""
        w, d, rng = self.w, self.d, self.rng
        site, tls = rng.randrange(1_000), rng.random() < 0.5
        held = []
        for host in range(rng.randint(2, 14)):
            t, peer = resolve(w, d, f"h{host}.site{site}.example", w.now, rng)
            for _ in range(rng.randint(1, 6)):
                tcp = Tcp(w, d, peer, 443 if tls else 80, rng)
                if rng.random() < self.typo / 3:
                    tcp.dead(t)
                    continue
                s = tcp.tls(tcp.open(t), "site.example", 300, 2_500) if tls else tcp.open(t)
                for _ in range(rng.randint(1, 6)):
                    up, down = rng.randint(200, 900), int(6_000 * rng.lognormvariate(0, 1.1))
                    s = tcp.ask(s, w.pool.bytes(up), w.pool.bytes(min(60_000, down)), 0.03)
                if rng.random() < 0.4:
                    held.append(tcp)
                else:
                    tcp.close(s)
                t += 0.2 * rng.random()
            yield max(w.now, t) + 0.3 * rng.random() ** 2
        yield w.now + rng.uniform(5, 120)
        for tcp in held:
            tcp.close(w.now + rng.random())

    def odd(self) -> Habit:
        w, d, rng = self.w, self.d, self.rng
        """A service of one's own on a port that nobody knows, asked some times."""
        peer, port = self._peer(0.5), rng.randint(1_025, 65_000)
        for _ in range(rng.randint(1, 12)):
            tcp = Tcp(w, d, peer, port, rng)
            if rng.random() < self.typo:
                t = tcp.refused(w.now)
            else:
                ask = payloads.http_get("work.example", "/", "desk")
                t = tcp.ask(tcp.open(w.now), ask, w.pool.bytes(rng.randint(100, 30_000)))
                t = tcp.close(t + 0.01, by_server=True)
            yield t + 0.2 + 20 * rng.random() ** 3
