"""The same device under another MAC or address: known again, asked once, linked by the user."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from guardian import bundle as bundles
from guardian import commands, mdns
from guardian.addresses import Lan, mac_text, pack
from guardian.cli import cli
from guardian.connrows import Scored
from guardian.const import MAX_HEARD, MAX_LINKED, MAX_MDNS_PER_DEVICE, NS
from guardian.devices import DeviceTable
from guardian.dhcp import hello
from guardian.hub import hub_states
from guardian.makers import makers
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.record import Recorder
from guardian.simulate import payloads
from guardian.store import Store
from guardian.tables import Conns
from tests.test_devices import CAM, CAM4, CLOUD, GW, GW4, HUB, P, back, decoded, keys, out, sides
from tests.test_names import dhcp, option

PHONE, PHONE2, PHONE3, OTHER = 0x3E0000000001, 0x3E0000000002, 0x3E0000000003, 0x3E0000000099
WANTED = bytes([1, 3, 6, 15, 119, 252])
DAY = 86_400.0
NOW = time.time()


def asks(mac: int, ts: float, name: bytes = b"", wanted: bytes = WANTED, kind: bytes = b"") -> P:
    """Return a DHCP request."""
    said = option(53, b"\x03") + option(55, wanted)
    said += option(12, name) if name else b""
    said += option(60, kind) if kind else b""
    return P(mac, "0.0.0.0", 0xFFFFFFFFFFFF, "255.255.255.255", ts, sport=68, dport=67,
             payload=dhcp(said + b"\xff"))  # fmt: skip


def announces(mac: int, src: str, ts: float, host: str, service: str = "_airplay._tcp.local.",
              of: str = "") -> P:  # fmt: skip
    """Return an mDNS announcement; `of`: of an address that is another's."""
    said = payloads.mdns_announcement(service, host, 7_000, of or src)
    return P(mac, src, 0x01005E0000FB, "224.0.0.251", ts, sport=5353, dport=5353, payload=said)


def home(*packets: P, **rest: Any) -> DeviceTable:
    table = DeviceTable(Lan(), **rest)
    table.step(decoded([P(CAM, CAM4, GW, GW4, 0, dport=53), P(GW, GW4, CAM, CAM4, 0, sport=53)]))
    table.step(decoded([out(ts=1), back(ts=2)]))
    for p in sorted(packets, key=lambda p: p.ts):
        table.step(decoded([p]))
    return table


def speaks(mac: int, src: str, ts: float) -> P:
    return P(mac, src, GW, CLOUD, ts)


def guessed(table: DeviceTable) -> list[tuple[str, str]]:
    return [(g.new, g.old) for g in table.guesses()]


K1, K2, K3 = mac_text(PHONE), mac_text(PHONE2), mac_text(PHONE3)


# --- what they say of themselves --------------------------------------------------------


def test_the_fingerprint_is_of_the_list_and_the_class_and_not_of_the_name() -> None:
    base = option(55, WANTED) + option(60, b"android-dhcp-14") + b"\xff"
    one = hello(dhcp(option(12, b"Pixel") + base))
    assert one is not None
    assert one.name == "Pixel"
    assert len(one.fingerprint) == 12
    for options, same in (
        (option(12, b"other") + base, True),
        (option(55, WANTED[::-1]) + option(60, b"android-dhcp-14") + b"\xff", False),
        (option(55, WANTED) + option(60, b"MSFT 5.0") + b"\xff", False),
    ):
        other = hello(dhcp(options))
        assert other is not None
        assert (other.fingerprint == one.fingerprint) is same
    nothing = hello(dhcp(option(12, b"x") + b"\xff"))
    assert nothing is not None
    assert nothing.fingerprint == ""


def test_names_by_mdns_are_the_senders_own() -> None:
    table = home(
        speaks(PHONE, "192.168.1.30", 10),
        announces(PHONE, "192.168.1.30", 11, "Annas-iPhone"),
        announces(PHONE, "192.168.1.30", 12, "Sleeping-Mac", of="192.168.1.77"),
        announces(PHONE, "192.168.1.30", 13, "0f4b1c2d-3e4f-5a6b-7c8d-9e0f1a2b3c4d"),
    )
    device = table.device(table.index(K1))
    assert device.name == "Annas-iPhone"
    assert set(device.heard) == {"Annas-iPhone"}


def test_a_name_by_dhcp_weighs_more_and_stays() -> None:
    table = home(
        speaks(PHONE, "192.168.1.30", 10),
        announces(PHONE, "192.168.1.30", 11, "android-1234"),
        asks(PHONE, 12, b"Annas-Phone"),
        announces(PHONE, "192.168.1.30", 13, "android-1234"),
    )
    assert table.device(table.index(K1)).name == "Annas-Phone"


def test_many_names_and_much_noise_are_bounded() -> None:
    said = [announces(PHONE, "192.168.1.30", 10 + i, f"name-{i}") for i in range(40)]
    table = home(speaks(PHONE, "192.168.1.30", 9), *said)
    assert len(table.device(table.index(K1)).heard) == MAX_HEARD
    flood = [announces(OTHER, "192.168.1.31", 60, f"n{i}") for i in range(100)]
    table.step(decoded([*flood, announces(PHONE, "192.168.1.30", 61, "still-heard")]))
    assert table.device(table.index(mac_text(OTHER))).name == f"n{MAX_MDNS_PER_DEVICE - 1}"
    assert table.device(table.index(K1)).name == "still-heard"


@given(st.binary(max_size=300), st.integers(0, 40))
def test_no_answer_raises(raw: bytes, cut: int) -> None:
    good = payloads.mdns_announcement("_hap._tcp.local.", "plug", 80, "192.168.1.9")
    for payload in (raw, b"\0\0\x84\0\0\0\0\x09" + raw, good[: len(good) - cut] + raw):
        mdns.answer(payload)


def test_pointers_in_a_circle_end() -> None:
    loop = b"\0\0\x84\0\0\0\0\x01\0\0\0\0" + b"\xc0\x0c" + bytes(10)
    assert mdns.answer(loop) is not None


# --- who may it be? ----------------------------------------------------------------------------


def phone_then(*later: P, **rest: Any) -> DeviceTable:
    return home(
        speaks(PHONE, "192.168.1.30", 10),
        asks(PHONE, 11, b"Annas-iPhone"),
        speaks(PHONE, "192.168.1.30", 1_000),
        *later,
        **rest,
    )


def test_a_phone_with_a_new_mac_is_asked_about_once() -> None:
    table = phone_then(asks(PHONE2, DAY, b"Annas-iPhone"), speaks(PHONE2, "192.168.1.31", DAY + 1))
    assert guessed(table) == [(K2, K1)]
    assert guessed(table) == []
    table.step(decoded([speaks(PHONE2, "192.168.1.31", DAY + 9)]))
    assert guessed(table) == []


@pytest.mark.parametrize(
    ("why", "later"),
    [
        ("another name", [asks(PHONE2, DAY, b"Bens-iPhone")]),
        ("a MAC of its maker's", [asks(0x3C0000000002, DAY, b"Annas-iPhone")]),
        ("it says nothing", [speaks(PHONE2, "192.168.1.31", DAY)]),
        (
            "the earlier one is there, too",
            [asks(PHONE2, DAY, b"Annas-iPhone"), speaks(PHONE, "192.168.1.30", DAY + 60)],
        ),
        ("it asks for other things", [asks(PHONE2, DAY, b"", WANTED[:3])]),
    ],
)
def test_no_question_where(why: str, later: list[P]) -> None:
    assert guessed(phone_then(*later)) == [], why


def test_without_a_name_the_way_it_asks_must_be_the_only_one() -> None:
    nameless = asks(PHONE2, DAY)
    assert guessed(phone_then(nameless)) == [(K2, K1)]
    also = [asks(OTHER, 20), nameless]
    assert guessed(phone_then(*also)) == []


def test_names_that_all_have_show_nothing() -> None:
    table = home(
        asks(PHONE, 10, b"iPhone"), asks(OTHER, 20, b"iPhone"), asks(PHONE2, DAY, b"iPhone")
    )
    assert guessed(table) == []


def test_it_may_be_known_by_mdns_alone_and_later() -> None:
    table = home(
        speaks(PHONE, "192.168.1.30", 10),
        announces(PHONE, "192.168.1.30", 11, "Annas-iPhone"),
        speaks(PHONE2, "192.168.1.31", DAY),
    )
    assert guessed(table) == []
    table.step(decoded([announces(PHONE2, "192.168.1.31", DAY + 30, "Annas-iPhone")]))
    assert guessed(table) == [(K2, K1)]


def test_forged_macs_are_compared_a_few_at_a_time() -> None:
    table = phone_then()
    many = [asks(0x3E1000000000 + i, DAY + i, b"x%d" % i) for i in range(200)]
    table.step(decoded(many))
    begun = time.perf_counter()
    assert table.guesses() == []
    assert time.perf_counter() - begun < 0.5
    assert len(table._unguessed) > 100


# --- linked ------------------------------------------------------------------------------------


def test_a_linked_mac_is_the_earlier_device_in_all() -> None:
    table = phone_then(speaks(PHONE2, "192.168.1.31", DAY), names={K2: "Annas Handy"})
    old, new = table.index(K1), table.index(K2)
    assert table.link(K2, K1)
    assert table.take_evicted() == [new]
    assert table.index(K2) == table.index(K1) == old
    assert table.find(K2) == table.find(K2.upper()) == K1
    device = table.device(old)
    assert device.macs == (K2,)
    assert set(device.addresses) == {"192.168.1.30", "192.168.1.31"}
    assert table.ref(old).name == "Annas Handy"
    table.step(decoded([speaks(PHONE2, "192.168.1.44", DAY + 5)]))
    assert keys(table).count(K2) == 0
    assert table.device(old).last_seen == int((DAY + 5) * NS)
    both = (PHONE2, "192.168.1.44", GW, CLOUD), (PHONE, "192.168.1.30", GW, CLOUD)
    assert sides(table, *both) == [(K1, ""), (K1, "")]
    assert table.unlink(K2)
    assert not table.unlink(K2)
    table.step(decoded([speaks(PHONE2, "192.168.1.44", DAY + 9)]))
    assert table.device(table.index(K2)).macs == ()
    assert table.device(old).macs == ()


def test_a_phone_that_changes_daily_has_so_many_macs() -> None:
    table = phone_then()
    for day in range(1, MAX_LINKED + 4):
        mac = 0x3E2000000000 + day
        table.step(decoded([speaks(mac, "192.168.1.31", day * DAY)]))
        assert table.link(mac_text(mac), K1)
    assert len(table.device(table.index(K1)).macs) == MAX_LINKED
    assert len(table._by_mac) == 2 + 1 + MAX_LINKED


def test_what_cannot_be_linked() -> None:
    table = phone_then(speaks(PHONE2, "192.168.1.31", DAY))
    assert not table.link(K2, K2)
    assert not table.link(K2, "3e:00:00:00:00:77")
    assert not table.link(K2, mac_text(GW))
    assert not table.link(mac_text(GW), K1)
    assert table.take_evicted() == []


# --- kept, asked, answered ---------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "guardian.db", drop_box=True) as opened:
        yield opened


def watch(store: Store, table: DeviceTable) -> tuple[Pipeline, Polling]:
    pipeline = Pipeline(bundles.load(bundles.default_path()), Lan(), table)
    return pipeline, Polling(store, pipeline)


def record(store: Store, pipeline: Pipeline) -> None:
    Recorder(store, pipeline)
    store.add(
        records=Conns.empty(), scored=Scored.empty(), devices=pipeline.devices.devices(),
        now=int(NOW * NS),
    )  # fmt: skip
    store.commit(int(NOW * NS))


def guardian(store: Store, *arguments: str) -> str:
    done = CliRunner().invoke(cli, [*arguments, "--db", str(store.path)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def aged(*later: P) -> DeviceTable:
    """A home whose times are about now, as the daemon has them."""
    table = phone_then(*later)
    for row in table._rows.values():
        row.first_seen += int((NOW - 2 * DAY) * NS)
        row.last_seen += int((NOW - 2 * DAY) * NS)
    return table


def test_the_question_the_answer_and_the_restart(store: Store) -> None:
    now = int(NOW * NS)
    table = aged(asks(PHONE2, DAY, b"Annas-iPhone"), speaks(PHONE2, "192.168.1.31", DAY + 1))
    pipeline, polling = watch(store, table)
    record(store, pipeline)
    store.name_device(K1, "Annas Handy")
    polling.poll(now)
    assert table.asked[K2].old == K1
    shown = {d.key: d for d in hub_states(pipeline, 0)[1]}
    assert shown[K2].maybe == K1
    assert "it calls itself the same (annas-iphone)" in shown[K2].maybe_why

    said = guardian(store, "devices")
    assert f"guardian devices --link {K2} {K1}" in said
    listed = {d["key"]: d for d in json.loads(guardian(store, "devices", "--json"))}
    assert listed[K2]["maybe"]["device"] == K1

    guardian(store, "devices", "--link", K2, "Annas Handy")
    polling.poll(now)
    assert not table.asked
    assert table.find(K2) == K1
    listed = {d["key"]: d for d in json.loads(guardian(store, "devices", "--json"))}
    assert K2 not in listed
    assert listed[K1]["macs"] == [K2]
    assert "--link" not in guardian(store, "devices")

    again = DeviceTable(Lan())
    _, polling = watch(store, again)
    polling.restore(now)
    assert again.find(K2) == K1
    again.step(decoded([speaks(PHONE2, "192.168.1.99", NOW + 5)]))
    assert K2 not in keys(again)
    # What nobody judged counts for the linked device, too.
    records = Conns.blank(1)
    records.orig_mac[:], records.orig[:], records.local_orig[:] = PHONE2, pack("192.168.1.99"), True
    store.add(records=records, scored=Scored.empty(), now=now + 600 * NS)
    store.commit(now + 600 * NS)
    assert store._db.execute("SELECT device FROM connections").fetchall() == [(K1,)]

    guardian(store, "devices", "--unlink", K2)
    polling.poll(now)
    again.step(decoded([speaks(PHONE2, "192.168.1.99", NOW + 9)]))
    assert K2 in keys(again)
    polling.poll(now + NS)
    assert not again.asked  # the user said no, once and for all


def test_no_is_no_also_after_a_restart(store: Store) -> None:
    now = int(NOW * NS)
    table = aged(asks(PHONE2, DAY, b"Annas-iPhone"))
    pipeline, polling = watch(store, table)
    record(store, pipeline)
    polling.poll(now)
    guardian(store, "devices", "--unlink", K2)
    polling.poll(now)
    assert "--link" not in guardian(store, "devices")
    again = DeviceTable(Lan())
    _, polling = watch(store, again)
    polling.restore(now)
    polling.poll(now)
    assert not again.asked


def test_two_at_once_answer_the_question_themselves(store: Store) -> None:
    now = int(NOW * NS)
    table = aged(asks(PHONE2, DAY, b"Annas-iPhone"))
    pipeline, polling = watch(store, table)
    record(store, pipeline)
    polling.poll(now)
    assert table.asked
    table.step(decoded([speaks(PHONE, "192.168.1.30", NOW)]))
    polling.poll(now)
    assert not table.asked
    assert store.kin()[K2][1] == "refused"


def test_the_fingerprint_outlives_a_restart_and_names_do_not_above_level_0(tmp_path: Path) -> None:
    from guardian.privacy import Privacy  # noqa: PLC0415

    for level, names in ((0, '["Annas-iPhone"]'), (1, "[]")):
        with Store(tmp_path / f"{level}.db", privacy=Privacy(level)) as store:
            pipeline, _ = watch(store, phone_then())
            record(store, pipeline)
            row = store._db.execute("SELECT fingerprint, names FROM kin").fetchone()
            assert len(row[0]) == 12
            assert row[1] == names
            known = {d.key: d for d in store.devices()}
            assert known[K1].fingerprint == row[0]


def test_forgetting_a_device_forgets_its_links(store: Store) -> None:
    pipeline, polling = watch(store, phone_then(speaks(PHONE2, "192.168.1.31", DAY)))
    record(store, pipeline)
    guardian(store, "devices", "--link", K2, K1)
    polling.poll(1)
    assert "is forgotten" in guardian(store, "devices", "--forget", K1)
    store.forget_device(K1)
    assert store.kin() == {}
    assert {d.key for d in store.devices()} == {mac_text(CAM), mac_text(GW)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--link", K2, "nobody"], "no device 'nobody'"),
        (["--link", K1, K1], "one device already"),
        (["--unlink", K1], "is linked to no other device"),
        (["--unlink", "\x1b[31m"], "is linked to no other device"),
    ],
)
def test_mistakes_are_one_sentence(store: Store, arguments: list[str], said: str) -> None:
    pipeline, _ = watch(store, phone_then(speaks(PHONE2, "192.168.1.31", DAY)))
    record(store, pipeline)
    done = CliRunner().invoke(cli, ["devices", *arguments, "--db", str(store.path)])
    assert done.exit_code == 1
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)


@pytest.mark.parametrize("args", [{}, {"device": "x"}, {"device": 1, "old": "y"}])
def test_links_from_outside_are_checked(args: dict[str, Any]) -> None:
    assert commands.check("link", args)


# --- addresses that change ---------------------------------------------------------------------


def test_a_device_that_changes_its_address_stays_itself() -> None:
    table = home(speaks(CAM, "192.168.1.99", 50))
    device = table.device(table.index(mac_text(CAM)))
    assert device.addresses == (CAM4, "192.168.1.99")
    assert sides(table, (CAM, "192.168.1.99", GW, CLOUD)) == [(mac_text(CAM), "")]
    # Another takes its old address: each answers for its own.
    table.step(decoded([P(HUB, CAM4, GW, CLOUD, 60)]))
    assert sides(table, (HUB, CAM4, GW, CLOUD), (CAM, "192.168.1.99", GW, CLOUD)) == [
        (mac_text(HUB), ""), (mac_text(CAM), ""),
    ]  # fmt: skip
    assert sides(table, (0, CAM4, 0, CLOUD)) == [(mac_text(HUB), "")]


def test_a_lan_that_is_renumbered_keeps_its_devices_names_and_router() -> None:
    table = home(speaks(HUB, "192.168.1.6", 20), names={mac_text(CAM): "Hall camera"})
    before = keys(table)
    table.step(decoded([
        P(GW, "10.20.0.1", CAM, "10.20.0.5", 100, sport=67, dport=68),
        P(CAM, "10.20.0.5", GW, "10.20.0.1", 101, dport=53),
        P(GW, "10.20.0.1", CAM, "10.20.0.5", 102, sport=53),
        P(CAM, "10.20.0.5", GW, CLOUD, 103), P(GW, CLOUD, CAM, "10.20.0.5", 104),
        P(HUB, "10.20.0.6", GW, CLOUD, 105),
    ]))  # fmt: skip
    assert keys(table) == before
    assert [d.gateway for d in table.devices()].count(True) == 1
    assert table.ref(table.index(mac_text(CAM))).name == "Hall camera"
    assert table.ref(table.index(mac_text(HUB))).ip == "10.20.0.6"
    assert sides(table, (CAM, "10.20.0.5", GW, CLOUD), (CAM, "10.20.0.5", HUB, "10.20.0.6")) == [
        (mac_text(CAM), ""), (mac_text(CAM), mac_text(HUB)),
    ]  # fmt: skip


# --- makers ------------------------------------------------------------------------------------


def test_makers_by_the_longest_prefix() -> None:
    found = makers([0x083A8D000001, 0x001BC5001000 | 0x10000, 0x0055DA100001, PHONE])
    assert found[0x083A8D000001] == "Espressif"
    assert found[0x0055DA100001] == "KoolPOS"
    assert PHONE not in found


def test_a_device_without_a_name_is_called_by_its_maker(store: Store) -> None:
    mac = 0x083A8D000001
    table = home(speaks(mac, "192.168.1.40", 10))
    pipeline, polling = watch(store, table)
    polling.poll(int(NOW * NS))
    assert table.ref(table.index(mac_text(mac))).name == "Espressif (192.168.1.40)"
    record(store, pipeline)
    listed = {d["key"]: d for d in json.loads(guardian(store, "devices", "--json"))}
    assert listed[mac_text(mac)]["name"] == "Espressif (192.168.1.40)"
    assert listed[mac_text(mac)]["maker"] == "Espressif"
    table.step(decoded([asks(mac, 20, b"kitchen-plug")]))
    assert table.ref(table.index(mac_text(mac))).name == "kitchen-plug"
    assert np.all(table._first[: len(keys(table))] >= 0)
