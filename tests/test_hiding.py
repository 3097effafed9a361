"""Weeks of one device that hides: slowly, from its first day, or little by little.

A camera looks up its cloud's name and calls it every five minutes. Beside that it does what it
should not. What is not found today is named in docs/threat-model.md, not here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from guardian import bundle
from guardian.addresses import Lan
from guardian.devices import DeviceTable
from guardian.pipeline import Pipeline
from guardian.source import read_log

pytestmark = pytest.mark.slow

DAY, BEGIN = 86_400, 1_790_000_000
CAMERA = "192.168.1.20"
TYPES = {
    "ts": "time", "uid": "string", "id.orig_h": "addr", "id.orig_p": "port", "id.resp_h": "addr",
    "id.resp_p": "port", "proto": "enum", "service": "string", "duration": "interval",
    "orig_bytes": "count", "resp_bytes": "count", "conn_state": "string", "local_orig": "bool",
    "local_resp": "bool", "history": "string", "orig_pkts": "count", "orig_ip_bytes": "count",
    "resp_pkts": "count", "resp_ip_bytes": "count",
}  # fmt: skip

Call = tuple[float, tuple[object, ...]]
"""When, and a record's columns from id.resp_h on, without those that follow from others."""
Bad = Callable[[int, float, random.Random], list[Call]]
"""What is done on a day: its number, its begin."""


def lookup() -> tuple[object, ...]:
    return "192.168.1.1", 53, "udp", "dns", 0.02, 40, 120, "SF", "Dd", 1, 1


def cloud(r: random.Random) -> tuple[object, ...]:
    amounts = r.randrange(700, 900), r.randrange(3_000, 5_000)
    return "203.0.113.10", 443, "tcp", "ssl", r.uniform(0.4, 1.5), *amounts, "SF", "ShADadFf", 9, 10


def knock(r: random.Random) -> tuple[object, ...]:
    """Call somebody for Telnet who does not answer."""
    peer = f"{r.randrange(11, 190)}.{r.randrange(256)}.{r.randrange(256)}.{r.randrange(1, 255)}"
    return peer, 23, "tcp", "-", 3.0, 0, 0, "S0", "S", 3, 0


def beacon() -> tuple[object, ...]:
    return "45.9.20.7", 6667, "tcp", "-", 0.3, 60, 40, "SF", "ShADadFf", 5, 4


def spread(a_day: Callable[[int], int]) -> Bad:
    """Knock so often a day, at any time of it."""

    def bad(day: int, begin: float, r: random.Random) -> list[Call]:
        return [(begin + r.uniform(0, DAY), knock(r)) for _ in range(a_day(day))]

    return bad


def bursts(a_day: Callable[[int], int]) -> Bad:
    """Knock so often within ten minutes at noon."""

    def bad(day: int, begin: float, r: random.Random) -> list[Call]:
        many = a_day(day)
        return [(begin + DAY / 2 + 600 * k / many, knock(r)) for k in range(many)]

    return bad


def beacons(every: Callable[[int], int]) -> Bad:
    def bad(day: int, begin: float, r: random.Random) -> list[Call]:
        pause = every(day)
        return (
            [(begin + k + r.uniform(0, 3), beacon()) for k in range(0, DAY, pause)] if pause else []
        )

    return bad


def opened(folder: Path, days: int, bad: Bad) -> list[tuple[float, str]]:
    """Return (day, cause) of the incidents that the shipped bundle and the counters open."""
    r = random.Random(1)
    calls: list[Call] = []
    for day in range(days):
        begin = BEGIN + day * DAY
        for k in range(288):
            t = begin + 300 * k + r.uniform(0, 20)
            calls += [(t, lookup()), (t + 0.1, cloud(r))]
        calls += bad(day, begin, r)
    calls.sort(key=lambda call: call[0])
    head = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n"
    head += "#path\tconn\n#fields\t" + "\t".join(TYPES) + "\n#types\t" + "\t".join(TYPES.values())
    lines = [head]
    for n, (
        t,
        (peer, port, proto, service, span, sent, got, state, history, out, back),
    ) in enumerate(calls):
        row = (
            f"{t:.6f}", f"C{n:08d}", CAMERA, 30_000 + n % 30_000, peer, port, proto, service, span,
            sent, got, state, "T", "F", history, out, int(str(sent)) + 40 * int(str(out)), back,
            int(str(got)) + 40 * int(str(back)),
        )  # fmt: skip
        lines.append("\t".join(map(str, row)))
    path = folder / "conn.log"
    path.write_text("\n".join(lines) + "\n")
    lan = Lan(("192.168.1.0/24",))
    pipeline = Pipeline(bundle.load(bundle.default_path()), lan, DeviceTable(lan))
    events = pipeline.step_records(read_log(path, lan).conns).events + pipeline.finish().events
    return [
        ((e.incident.opened / 1e9 - BEGIN) / DAY, e.incident.cause)
        for e in events
        if e.change == "opened"
    ]


def test_ten_quiet_days_are_quiet(tmp_path: Path) -> None:
    assert opened(tmp_path, 10, spread(lambda _: 0)) == []


def test_a_scan_that_grows_by_twenty_a_day_is_found(tmp_path: Path) -> None:
    found = opened(tmp_path, 21, spread(lambda day: 20 * day))
    assert {cause for _, cause in found} == {"scan"}
    assert found[0][0] < 21


def test_a_burst_that_grows_by_a_third_a_day_is_found_while_it_is_small(tmp_path: Path) -> None:
    """It is 100 calls long before it is a thousand."""
    found = opened(tmp_path, 16, bursts(lambda day: int(2 * 1.4**day)))
    assert found
    day, cause = found[0]
    assert cause == "scan"
    assert 2 * 1.4 ** int(day) < 100


def test_a_beacon_that_comes_more_and_more_often_is_found(tmp_path: Path) -> None:
    """From every two hours to every minute within two weeks: no day is much like another's end."""
    found = opened(tmp_path, 15, beacons(lambda day: max(60, 7_200 >> day // 2)))
    assert found


def test_a_device_that_is_bad_from_its_first_minute_is_not_learned_as_normal(
    tmp_path: Path,
) -> None:
    """What a device does in its first hours is taken for its habit, but not whatever it does."""
    found = opened(tmp_path, 1, beacons(lambda _: 60))
    assert found[0][0] < 0.25
    found = opened(tmp_path, 4, spread(lambda _: 400))
    assert {cause for _, cause in found} == {"scan"}


def test_scans_that_were_there_while_the_home_was_learned_are_found_again(tmp_path: Path) -> None:
    found = opened(tmp_path, 9, bursts(lambda day: 60 if day < 7 else 1_000))
    days = [int(day) for day, cause in found if cause == "scan"]
    assert 0 in days
    assert {7, 8} <= set(days)


def test_a_hundred_calls_a_day_are_a_scan_within_a_day(tmp_path: Path) -> None:
    """No hour has more than a few of them."""
    found = opened(tmp_path, 1, spread(lambda _: 100))
    assert [cause for _, cause in found] == ["scan"]


def test_a_slow_beacon_that_comes_later_is_found(tmp_path: Path) -> None:
    for every, within in ((600, 1.2), (3_600, 1.6)):
        later = [0, every]
        found = opened(tmp_path, 2, beacons(later.__getitem__))
        assert [cause for _, cause in found] == ["c2"]
        assert found[0][0] < within
