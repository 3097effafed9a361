"""Names that hurt, the whole way: from a packet to terminal, JSON, CSV, database and MQTT.

Any device may call itself anything, look up anything, ask any server for anything. Nothing of it
may move a cursor, run as a formula or a script, open a topic, or say what another device is.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from guardian import bundle, capture, commands
from guardian.addresses import Lan
from guardian.cli import cli
from guardian.connlog import guarded
from guardian.devices import DeviceTable
from guardian.discovery import Topics, slug
from guardian.hub import hub_states
from guardian.pipeline import Pipeline
from guardian.publish import hub_messages
from guardian.store import Store
from guardian.tell import harmless, paragraph, table
from tests.test_service import hello

NAMES = [
    b"\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    b"\x9b31m\xc2\x9b2J",  # C1 controls, as bytes and as UTF-8
    b"a\nb\rc\td",
    b"<script>alert(1)</script>",
    b'"><img src=x onerror=alert(1)>',
    b"=cmd|' /C calc'!A0",
    b"+1+1",
    b"@SUM(1)",
    b"-2+3",
    b"home/+/#",
    b"guardian/gateway/budget/set",
    b"\x00null\x00",
    b"'; DROP TABLE devices; --",
    b"../../etc/passwd",
    b"%s%n{0}{name}$(id)`id`",
    "\u202egnp.exe\u2066".encode(),
    "a\u0301\u0301\u0301\u200b\u2028\ufeff".encode(),
    b"\xff\xfe\xc0\xaf",
    b"aa:bb:cc:dd:ee:ff",
    b"x" * 250,
]
ROUTER, PEER = "02:00:00:00:00:01", "203.0.113.7"


def mac(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


def said(number: int, name: bytes, t: float) -> Iterator[tuple[float, Packet]]:
    """Yield (moment, frame) of a device that says its name in every way there is, then scans."""
    ip, me = f"192.168.1.{number + 10}", mac(number)
    out = Ether(src=me, dst=ROUTER)
    back = Ether(src=ROUTER, dst=me)
    label = name[:60] or b"x"
    options = [("message-type", "request"), (12, name), "end"]
    yield t, (
        Ether(src=me, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67) / BOOTP(op=1, chaddr=bytes.fromhex(me.replace(":", "")))
        / DHCP(options=options)
    )  # fmt: skip
    yield t + 0.1, (
        Ether(src=me, dst="01:00:5e:00:00:fb") / IP(src=ip, dst="224.0.0.251", ttl=255)
        / UDP(sport=5353, dport=5353)
        / DNS(qr=1, aa=1, an=DNSRR(rrname=label + b".local", type="A", rdata=ip, ttl=120))
    )  # fmt: skip
    question = DNSQR(qname=label + b".example.com")
    yield (
        t + 0.2,
        out / IP(src=ip, dst="192.168.1.1") / UDP(sport=5000, dport=53) / DNS(qd=question),
    )
    yield t + 0.21, (
        back / IP(src="192.168.1.1", dst=ip) / UDP(sport=53, dport=5000)
        / DNS(qr=1, qd=question, an=DNSRR(rrname=label + b".example.com", rdata=PEER))
    )  # fmt: skip
    payloads = (hello(label), b"GET / HTTP/1.1\r\nHost: " + name + b"\r\n\r\n")
    for k, (port, payload) in enumerate(zip((443, 80), payloads, strict=True)):
        go, come = out / IP(src=ip, dst=PEER), back / IP(src=PEER, dst=ip)
        at = t + 0.3 + k / 10
        mine: dict[str, Any] = {"sport": 6000 + k, "dport": port}
        theirs: dict[str, Any] = {"sport": port, "dport": 6000 + k}
        end = 101 + len(payload)
        yield at, go / TCP(**mine, flags="S", seq=100)
        yield at + 0.01, come / TCP(**theirs, flags="SA", seq=900, ack=101)
        yield at + 0.02, go / TCP(**mine, flags="A", seq=101, ack=901)
        yield at + 0.03, go / TCP(**mine, flags="PA", seq=101, ack=901) / Raw(payload)
        yield at + 0.04, go / TCP(**mine, flags="R", seq=end)
    for k in range(120):
        target = f"{('198.51.100', '203.0.113')[k % 2]}.{20 + k // 2}"
        scan = TCP(sport=40_000 + k, dport=23, flags="S", seq=k)
        yield t + 5 + k / 20, out / IP(src=ip, dst=target) / scan


def capture_of(path: Path, names: Sequence[bytes]) -> Path:
    """Write a capture of devices with these names."""
    frames = []
    for number, name in enumerate(names):
        for moment, frame in said(number, name, 1_790_000_000 + number / 50):
            frame.time = moment
            frames.append(frame)
    frames.sort(key=lambda f: float(f.time))
    wrpcap(str(path), frames)
    return path


def ran(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def quiet(text: str) -> None:
    """Assert that a terminal only prints it."""
    for c in text:
        assert c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}, (
            f"{c!r} in {text[:200]!r}"
        )


def strings(value: Any) -> Iterator[str]:
    """Yield every text of a JSON value, names of keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from strings(key)
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def plain(text: str) -> None:
    """Assert that a text is safe in a sentence, a notification and an attribute of HTML."""
    assert text.isprintable(), text
    assert "<" not in text, text
    assert ">" not in text, text


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    path = capture_of(folder / "a.pcap", NAMES)
    (folder / "replay.json").write_text(
        ran("replay", path, "--db", folder / "guardian.db", "--json", "--lan", "192.168.1.0/24")
    )
    return folder


def test_every_device_is_found_and_none_is_another(lived: Path) -> None:
    told = json.loads((lived / "replay.json").read_text())
    found = {alert["device"]["mac"]: alert["device"]["name"] for alert in told["alerts"]}
    assert set(found) == {mac(number) for number in range(len(NAMES))}, "each one scans"
    for text in strings(told):
        plain(text)
    assert found[mac(0)] == "0-owned-2J-31mred"
    # One that calls itself by another's MAC is still shown with its own.
    devices = json.loads(ran("devices", "--json", "--db", lived / "guardian.db"))
    by_mac = {d["mac"]: d for d in devices}
    assert by_mac[mac(18)]["mac"] != by_mac[mac(18)]["name"]


def test_nothing_reaches_the_terminal(lived: Path) -> None:
    db = lived / "guardian.db"
    alerts = json.loads(ran("alerts", "--json", "--db", db, "-n", 100))
    for text in (
        ran("devices", "--db", db),
        ran("alerts", "--db", db),
        *(ran("explain", one["id"], "--db", db) for one in alerts),
        ran("replay", lived / "a.pcap", "--lan", "192.168.1.0/24"),
        ran("conns", lived / "a.pcap").replace("\t", ""),
        ran("score", lived / "a.pcap", "--lan", "192.168.1.0/24"),
    ):
        quiet(text)
    error = CliRunner().invoke(cli, ["devices", "--name", "\x1b[2J", "x", "--db", str(db)])
    assert error.exit_code == 1
    wrong = harmless(str(error.exception))
    quiet(wrong)


def test_json_is_json_and_ascii(lived: Path) -> None:
    """What was looked up stays in the connections as it was, in printable ASCII, as in Zeek's."""
    db = lived / "guardian.db"
    told = [
        ran("dump", "incidents", "--format", "json", "--db", db),
        ran("devices", "--json", "--db", db),
    ]
    lines = [*told[0].splitlines(), told[1]]
    kept = [*ran("dump", "connections", "--format", "json", "--db", db).splitlines(),
            *ran("conns", lived / "a.pcap", "--format", "json").splitlines()]  # fmt: skip
    assert len(lines) > len(NAMES)
    assert len(kept) > 100 * len(NAMES)
    for line in (*lines, *kept):
        assert line.isascii()
    for line in lines:
        for text in strings(json.loads(line)):
            for inner in strings(json.loads(text)) if text[:1] in ("{", "[") else (text,):
                plain(inner)
    for line in kept:
        for text in strings(json.loads(line)):
            quiet(text)


def test_no_cell_is_a_formula(lived: Path) -> None:
    for text in (
        ran("dump", "incidents", "--db", lived / "guardian.db"),
        ran("dump", "connections", "--db", lived / "guardian.db"),
        ran("conns", lived / "a.pcap", "--format", "csv"),
        ran("score", lived / "a.pcap", "--lan", "192.168.1.0/24"),
    ):
        rows = list(csv.reader(io.StringIO(text)))
        assert len({len(row) for row in rows}) == 1, "no name begins a row of its own"
        for cell in (cell for row in rows for cell in row):
            assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r"), cell


def test_the_database_keeps_what_it_was_given(lived: Path) -> None:
    with closing(sqlite3.connect(lived / "guardian.db")) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        assert {"devices", "connections", "incidents"} <= tables
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = [row[0] for row in db.execute("SELECT learned FROM devices")]
    assert len(names) >= len(NAMES)
    for name in names:
        plain(name)
        assert len(name) <= 64


def test_every_topic_is_one_of_ours(lived: Path) -> None:
    lan = Lan(("192.168.1.0/24",))
    pipeline = Pipeline(bundle.load(bundle.default_path()), lan, DeviceTable(lan))
    events = []
    for frames in capture.read_frames(lived / "a.pcap"):
        events += pipeline.step(frames).events
    events += pipeline.finish().events
    for device, name in zip(pipeline.devices.devices(), NAMES, strict=False):
        # What the user wrote is not believed either: names come from a hub, too.
        pipeline.devices.set_name(device.key, name.decode("latin-1"))
    topics = Topics("0123456789ab", "guardian", "homeassistant")
    messages = hub_messages(topics, *hub_states(pipeline, 0), events)
    assert sum(m.topic.endswith("/incident") for m in messages) >= len(NAMES)
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    levels = {"homeassistant": 4, "guardian/device": 4, "guardian/gateway": 3, "guardian/status": 2}
    for message in messages:
        client.publish(message.topic, message.payload)  # raises where it is no topic
        head = next(head for head in levels if message.topic.startswith(head))
        assert message.topic.count("/") + 1 == levels[head], message.topic
        assert set(message.topic) <= set("abcdefghijklmnopqrstuvwxyz0123456789_/"), message.topic
        if message.payload[:1] == "{":
            for text in strings(json.loads(message.payload)):
                assert text.isprintable(), text


# --- each sink by itself, with any text ---------------------------------------------------

ANY = st.one_of(
    st.text(max_size=80),
    st.sampled_from([n.decode("latin-1") for n in NAMES]),
    st.text(alphabet="\x00\x07\x1b[]\x9b\r\n\t=+-@#/$<>\"'&;\u202e\u2028\u200b\ufeff", max_size=20),
)


@given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=4))
@settings(max_examples=60)
def test_any_text_is_quiet_in_tables_and_sentences(rows: list[tuple[str, str]]) -> None:
    drawn = table(("A", "B"), [tuple(map(harmless, row)) for row in rows], (20, 20))
    quiet(drawn)
    assert drawn.count("\n") == len(rows)
    for row in rows:
        quiet(paragraph(harmless(row[0])))


@given(ANY)
@settings(max_examples=80)
def test_any_cell_comes_back_as_one_cell_and_no_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([guarded(text), "end"])
    (row,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert row[1] == "end"
    assert row[0][:1] not in ("=", "+", "-", "@", "\t", "\r")
    same = text.translate({13: 32, 10: 32, 0: 32})
    assert row[0] in (same, f"'{same}")


@given(ANY)
@settings(max_examples=80)
def test_any_key_is_one_level_of_a_topic(text: str) -> None:
    level = slug(text)
    assert set(level) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    topic = Topics("i", "guardian", "homeassistant").state(text)
    assert topic == f"guardian/device/{level}/state"
    assert mqtt.topic_matches_sub("guardian/device/+/state", topic)


@given(ANY, ANY)
@settings(max_examples=8)
def test_any_name_and_word_go_through_the_database_as_text(name: str, word: str) -> None:
    """What a person or the hub wrote: kept whole where it is clean, bound and never pasted."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "g.db") as store:
        args = {"device": mac(1), "name": commands.clean_name(name)}
        assert commands.check("name", args) is None
        command = commands.Command("1" * 16, 1, word, "name", args)
        store.leave(command)
        (found,) = store.poll_commands(2)
        assert found.args == args
        store.mark_done(found.id, 2, word)
        assert store.poll_commands(3) == []
        assert store.result("1" * 16) is not None


# --- HTML: the pages of the workstation -------------------------------------------------------


class Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.train
@given(ANY, ANY, ANY)
@settings(max_examples=30)
def test_any_text_is_text_on_a_page(title: str, cell: str, about: str) -> None:
    html = pytest.importorskip("trainer.pages.html")

    def drawn(title: str, cell: str, about: str) -> Tags:
        begin = html.listing([(title, html.esc(cell))])
        body = html.table([html.esc(about), "n"], [[html.esc(cell), html.esc(title)]])
        body += html.figure(("data:,", "data:,"), about)
        page = html.page(title, begin, [("id", about, body)])
        found = Tags()
        found.feed(page)
        return found

    plain_one, found = drawn("t", "c", "a"), drawn(title, cell, about)
    assert found.tags == plain_one.tags
    assert found.attributes == plain_one.attributes
    assert found.text.count("\n") == plain_one.text.count("\n")
