"""What a device loads by name, or calls again and again, is a weaker sign of malware than what has
an address alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guardian.alerts import IncidentTable
from guardian.fetched import ASKED_S, MAX_ASKING, MAX_NAMED, Questions, is_name
from guardian.incidents import Incident
from guardian.seen import see
from tests.incident_rows import S, beacon, incident_table, mixed, run, tables

LOADER = "45.9.20.7"


def loads(
    number: int = 4, *, at: float = 100.0, every: float = 3.0, host: str = "", threat: float = 0.995
) -> list[S]:
    """Return files loaded from one machine; like a short connection they are told 5 s later."""
    return [
        S(at + 5 + k * every, threat, "download", peer=LOADER, port=8_080, piece=1, age=5.0,
          uid=f"Cload{k}", resp_bytes=90_000, host=host)
        for k in range(number)
    ]  # fmt: skip


def question(at: float) -> S:
    """Return a question that begins at a moment; it is told 5 s later."""
    return S(at + 5, peer="192.168.1.1", port=53, proto=17, service="dns", piece=1, age=5.0,
             uid=f"Cask{at}")  # fmt: skip


def joins(at: float = 1.0) -> S:
    """Return the call of a new device for its first address."""
    return S(at, peer="192.168.1.1", port=67, proto=17, service="dhcp")


def told(rows: list[S], table: IncidentTable | None = None) -> list[Incident]:
    events = run(incident_table() if table is None else table, rows)
    return [e.incident for e in events if e.change == "opened"]


def test_three_sure_files_from_an_address_are_told() -> None:
    """The seconds between them take nothing away."""
    assert told(loads(2)) == []
    (one,) = told(loads(3))
    assert (one.cause, one.count) == ("download", 3)


def test_four_of_a_young_device_are() -> None:
    assert told(loads(3), incident_table(age_s=0.0)) == []
    (one,) = told(loads(4), incident_table(age_s=0.0))
    assert one.cause == "download"


def test_minutes_between_sure_files_do_take_away() -> None:
    for every, found in ((2.0, 1), (60.0, 0)):
        apart = [replace(s, peer=f"45.9.20.{k}") for k, s in enumerate(loads(3, every=every))]
        assert len(told(apart)) == found


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("the request names it", loads(8, host="images.mirror.example")),
        ("with a port", loads(8, host="work.example:8080")),
        ("it was asked for", mixed([question(99.5)], loads(8))),
        ("FTP announced it", [replace(s, service="ftp-data") for s in loads(8)]),
        ("it was asked for by whoever is being set up", [joins(), *loads(8, host="a.example")]),
    ],
)  # fmt: skip
def test_what_has_a_name_is_a_third(why: str, rows: list[S]) -> None:
    assert told(rows) == [], why
    assert told([replace(s, host="", service="") for s in rows if s.port != 53]) != [], why


def test_nine_files_by_name_are_told_too() -> None:
    (one,) = told(loads(9, host="files.example"))
    assert (one.cause, one.count) == ("download", 9)


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("long ago", mixed([question(99 - ASKED_S)], loads())),
        ("afterwards", mixed([question(101.0)], loads(1), loads(3, at=104))),
        ("for another", mixed([question(99.5)], loads(host=f"{LOADER}:8080"))),
        ("by another", mixed([replace(question(99.5), device="192.168.1.6")], loads())),
    ],
)  # fmt: skip
def test_a_question_for_something_else_excuses_nothing(why: str, rows: list[S]) -> None:
    assert [i.cause for i in told(rows)] == ["download"], why


def test_who_was_asked_for_once_is_known_by_name_later() -> None:
    """Its address is remembered where the answer still holds."""
    assert told(mixed([question(99.5)], loads(1), loads(6, at=900.0))) == []


def test_a_device_that_is_being_set_up_loads_nothing_from_an_address() -> None:
    new = incident_table(age_s=0.0)
    (one,) = told([joins(), *loads(4)], new)
    assert one.cause == "download"
    assert told([joins(), *beacon(100.0, 8, every=5.0)], incident_table(age_s=0.0)) == []


def guesses(number: int = 6, *, host: str = "", outbound: bool = True) -> list[S]:
    """Return sessions that look like guesses at one machine, each 3 s after the one before."""
    return [replace(s, cause="brute-force", uid=f"Cguess{k}", resp_bytes=800, outbound=outbound)
            for k, s in enumerate(loads(number, host=host))]  # fmt: skip


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("the request names it", guesses(8, host="api.maker.example")),
        ("it was asked for", mixed([question(99.5)], guesses(8))),
    ],
)  # fmt: skip
def test_like_requests_to_a_machine_with_a_name_are_a_third_of_a_guess(
    why: str, rows: list[S]
) -> None:
    assert told(rows) == [], why
    (one,) = told([replace(s, host="") for s in rows if s.port != 53])
    assert one.cause == "brute-force"


def test_nine_sure_guesses_at_a_name_are_told() -> None:
    (one,) = told(guesses(9, host="login.example"))
    assert (one.cause, one.count) == ("brute-force", 9)


def test_who_guesses_from_outside_has_no_name() -> None:
    """The request that a stranger sends may name the device: that excuses nothing."""
    rows = guesses(host="camera.example", outbound=False)
    assert [one.cause for one in told(rows)] == ["brute-force"]


def test_a_new_device_that_guesses_at_an_address_is_still_asked_for_more() -> None:
    """An address speaks against a loader, not against who looks for its cloud."""
    assert told([joins(), *guesses(8)], incident_table(age_s=0.0)) == []


def test_other_causes_do_not_ask_for_names() -> None:
    rows = beacon(100.0, 8, every=60.0)
    with_name = [i.count for i in told(rows)]
    assert with_name == [i.count for i in told([replace(s, host="") for s in rows])] != []


def test_cuts_change_nothing_and_the_next_table_goes_on() -> None:
    rows = mixed([question(99.5)], loads(8))
    assert run(incident_table(), rows, cuts=range(len(rows))) == []
    first, second = incident_table(), incident_table()
    run(first, rows[:2])
    second.succeed(first)
    assert run(second, rows[2:]) == []
    assert run(incident_table(), rows[2:]) != []


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("files.example", True), ("files.example:8080", True), ("nas", True), ("", False),
        ("1.2.3.4", False), ("1.2.3.4:80", False), ("2001:db8::1", False),
        ("[2001:db8::1]:80", False), (":", False), ("?:?:?", False),
    ],
)  # fmt: skip
def test_names_and_addresses(host: str, known: bool) -> None:
    assert is_name(host) is known


def test_memory_is_bounded() -> None:
    home = incident_table()
    rows = [question(0.5), *(replace(s, at=5.6, peer=f"45.9.{k // 200}.{k % 200}")
            for k, s in enumerate(loads(3 * MAX_NAMED)))]  # fmt: skip
    slices, feature_rows, scores = tables(rows, home._devices)
    seen = list(see(slices, feature_rows, scores, home._lan))
    questions = Questions()
    for k in range(2 * MAX_ASKING):
        questions.look(f"d{k}", seen[0])
    for one in seen:
        questions.look(f"d{2 * MAX_ASKING - 1}", one)
    assert len(questions._devices) == MAX_ASKING
    assert len(questions._devices[f"d{2 * MAX_ASKING - 1}"].named) == MAX_NAMED
