"""Names from the network: safe to print whatever was sent."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from guardian.const import MAX_NAME
from guardian.dhcp import DHCP_MAGIC, dhcp_name
from guardian.names import printable, safe_name

SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._()+'-")


def dhcp(options: bytes, op: int = 1) -> bytes:
    return bytes([op, 1, 6, 0]) + bytes(232) + DHCP_MAGIC + options


def option(code: int, value: bytes) -> bytes:
    return struct.pack("BB", code, len(value)) + value


def test_ordinary_names_stay_as_they_are() -> None:
    assert safe_name(b"hall-camera") == "hall-camera"
    assert safe_name("Anna's iPhone (2)") == "Anna's iPhone (2)"


def test_hostile_names_become_harmless() -> None:
    assert safe_name("Bärbels Küche".encode()) == "Barbels Kuche"
    assert safe_name(b"\x1b[31mroot\x1b[0m\r\n<script>") == "31mroot-0m-script"
    assert safe_name(b"\x00\x00") == ""
    assert safe_name(b"a" * 500) == "a" * MAX_NAME


@given(st.one_of(st.binary(max_size=600), st.text(max_size=300)))
def test_any_name_is_safe_short_and_settled(raw: bytes | str) -> None:
    name = safe_name(raw)
    assert set(name) <= SAFE
    assert len(name) <= MAX_NAME
    assert name == name.strip()
    assert safe_name(name) == name


@given(st.text(max_size=600))
def test_a_users_text_keeps_its_script_but_no_control_characters(raw: str) -> None:
    text = printable(raw)
    assert text.isprintable()
    assert text == text.strip()


def test_a_user_may_write_any_script() -> None:
    assert printable("Küche 台所\n") == "Küche 台所"


def test_dhcp_host_name() -> None:
    assert dhcp_name(dhcp(option(53, b"\x01") + option(12, b"hall-camera") + b"\xff")) == (
        "hall-camera"
    )


def test_dhcp_host_name_wins_over_fqdn() -> None:
    fqdn = option(81, b"\x00\x00\x00plug.example.org")
    assert dhcp_name(dhcp(fqdn + b"\xff")) == "plug"
    assert dhcp_name(dhcp(fqdn + option(12, b"kitchen plug") + b"\xff")) == "kitchen plug"


def test_dhcp_fqdn_in_dns_wire_format() -> None:
    assert dhcp_name(dhcp(option(81, b"\x04\x00\x00\x04plug\x07example\x00") + b"\xff")) == "plug"


def test_dhcp_servers_name_nobody() -> None:
    assert dhcp_name(dhcp(option(12, b"hall-camera") + b"\xff", op=2)) == ""


def test_dhcp_options_that_end_early_are_left_out() -> None:
    assert dhcp_name(dhcp(b"\x0c\x20abc")) == ""
    assert dhcp_name(dhcp(b"\x0c")) == ""
    assert dhcp_name(dhcp(b"\x00\x00" + option(12, b"tv"))) == "tv"


@given(st.binary(max_size=400), st.binary(max_size=80))
def test_no_dhcp_message_raises(raw: bytes, options: bytes) -> None:
    for payload in (raw, dhcp(options), dhcp(options)[: len(raw)]):
        assert set(dhcp_name(payload)) <= SAFE
