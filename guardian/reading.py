"""What the user's commands read from the database, beside the daemon that writes it.

Every answer is plain dicts and lists, as --json prints them; times are float seconds.
"""

from __future__ import annotations

import ipaddress
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardian import deviceclass
from guardian.const import MAX_PEERS, NS
from guardian.discovery import DRILL_MAC
from guardian.makers import makers
from guardian.rules import Rule, holding
from guardian.schema import StoreError, open_reader
from guardian.wishes import Allow

if TYPE_CHECKING:
    from sqlite_utils import Database

Row = dict[str, Any]

INCIDENT = (
    "id", "opened", "updated", "closed", "severity", "cause", "label", "speaker", "score",
    "explanation", "advice", "count", "feedback",
)  # fmt: skip
_TIMES = {"opened", "updated", "closed"}

RUNNING_NS = 150 * NS
"""The daemon writes at least once a minute; after two and a half it is taken for stopped."""


@contextmanager
def reading(path: Path) -> Iterator[Database]:
    """Open the database for reading. Raises StoreError with a sentence."""
    # Half a second where pandas is installed: only those who read pay for it.
    from sqlite_utils import Database  # noqa: PLC0415

    connection = open_reader(path)
    try:
        connection.execute("BEGIN")  # one moment of the database for all questions
        yield Database(connection)
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot read the database {path} ({error}): try again; if it stays, restore a backup"
        ) from error
    finally:
        connection.close()


HELD = (
    "id IN (SELECT incident FROM incident_events WHERE change = 'held' "
    "EXCEPT SELECT incident FROM incident_events WHERE change = 'opened')"
)
"""Incidents that the week's limit held back and that nobody was told of since."""

WEEK_NS = 7 * 86_400 * NS
CHANGED_NS = 4 * WEEK_NS
"""A change of habits is shown so long."""


def devices(db: Database, now: int) -> list[Row]:
    """Return the devices, those with an open incident first, then by name."""
    open_incidents = dict(
        db.execute(
            f"SELECT device, count(*) FROM incidents WHERE closed IS NULL AND NOT {HELD} GROUP BY 1"
        )
    )
    held = holding(db.conn, now)
    snoozed = {r.device: (r.until or 0) / NS for r in held if r.kind == "snooze"}
    known = list(db.query("SELECT * FROM devices"))
    shown = {row["key"]: row for row in db.query("SELECT * FROM kin")}
    kin = {key: row for key, row in shown.items() if row["state"] in {"asked", "linked"}}
    linked = {key: row["same_as"] for key, row in kin.items() if row["state"] == "linked"}
    made = makers(_number(row["mac"]) for row in known if row["mac"])
    out = []
    for row in known:
        key = row["key"]
        if key in linked:
            continue
        others = sorted(new for new, old in linked.items() if old == key)
        addresses = json.loads(row["addresses"])
        address = best_address(addresses)
        count = sum(open_incidents.get(one, 0) for one in (key, *others))
        maker = made.get(_number(row["mac"]), "") if row["mac"] else ""
        plain = f"{maker} ({address or row['mac']})" if maker else address or key
        asked, signs = kin.get(key), shown.get(key)
        out.append(
            {
                "key": key,
                "name": row["user_name"] or row["learned"] or plain,
                "named_by_user": row["user_name"] is not None,
                "maker": maker,
                "mac": row["mac"],
                "macs": others,
                "class": deviceclass.stored(
                    [_number(mac) for mac in (row["mac"], *others) if mac],
                    signs["fingerprint"] if signs else "",
                    json.loads(signs["names"]) if signs else (),
                ),
                "address": address,
                "addresses": addresses,
                "state": (
                    "alert" if count
                    else "gateway" if row["gateway"]
                    else "snoozed" if key in snoozed
                    else "quiet"
                ),
                "open_incidents": count,
                "snoozed_until": snoozed.get(key),
                "maybe": {"device": asked["same_as"], "reason": asked["reason"]} if asked else None,
                "said": [_rule(r, {}) for r in held if r.device in (key, *others)
                         and r.kind != "snooze"],
                "first_seen": row["first_seen"] / NS,
                "last_seen": row["last_seen"] / NS,
            }
        )  # fmt: skip
    names = {d["key"]: d["name"] for d in out}
    changed = {
        row["device"]: {"at": row["at"] / NS, "features": json.loads(row["features"])}
        for row in db.query("SELECT * FROM changes WHERE at >= ? ORDER BY at", (now - CHANGED_NS,))
    }
    for d in out:
        d["changed"] = changed.get(d["key"])
        for rule in d["said"]:
            rule["name"] = names[d["key"]]
    return sorted(out, key=lambda d: (-d["open_incidents"], str(d["name"]).lower(), d["key"]))


def _number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def rules(db: Database, now: int) -> list[Row]:
    """Return what the user said that holds, oldest first, with the devices' names."""
    names = {row["key"]: row["name"] for row in devices(db, now)}
    return [_rule(rule, names) for rule in holding(db.conn, now)]


def _rule(rule: Rule, names: dict[str, str]) -> Row:
    return {
        "id": rule.id,
        "kind": rule.kind,
        "device": rule.device or None,
        "name": names.get(rule.device, rule.device) or None,
        "peer": rule.peer or None,
        "cause": rule.cause or None,
        "answer": rule.answer or None,
        "incident": rule.incident or None,
        "until": None if rule.until is None else rule.until / NS,
        "created": rule.created / NS,
        "author": rule.author,
    }


def waiting(db: Database) -> int:
    """Return how many commands the daemon has yet to do."""
    return int(db.execute("SELECT count(*) FROM commands WHERE done IS NULL").fetchone()[0])


def find_rule(db: Database, prefix: str, now: int) -> Row:
    """Return the rule whose id begins with `prefix`. Raises StoreError where it is not just one."""
    found = [rule for rule in rules(db, now) if prefix and rule["id"].startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise StoreError(
            f"nothing to undo by the name of {prefix!r}: guardian allow --list has all"
        )
    ids = ", ".join(rule["id"] for rule in found[:5])
    raise StoreError(f"{prefix!r} may be {ids}: give more of the id")


def effect(db: Database, allow: Allow) -> tuple[int, list[Row]]:
    """Return how many incidents there are, and those that an allowance would have changed.

    An incident with `whole` set would not have opened: all it is about is covered. Otherwise a
    part of its evidence is, and the rest may or may not have sufficed. Newest first.
    """
    names = user_names(db)
    total, out = 0, []
    for row in db.query("SELECT * FROM incidents ORDER BY opened DESC, id"):
        total += 1
        peers = json.loads(row["evidence"]).get("peers", [])
        covered = [
            allow.covers(row["device"], (p["ip"], p["host"]), p["port"], row["cause"], 0)
            for p in peers
        ]
        if not peers:
            covered = [not allow.peer and allow.covers(row["device"], (), 0, row["cause"], 0)]
        if any(covered):
            # Beyond MAX_PEERS nobody kept whom it was about.
            known = not allow.peer or len(peers) < MAX_PEERS
            out.append(_incident(row, names) | {"whole": all(covered) and known})
    return total, out


def best_address(addresses: list[str]) -> str:
    """Return the IPv4 address used last, else the last address, else nothing."""
    v4 = [a for a in addresses if ":" not in a]
    return (v4 or addresses or [""])[-1]


def alerts(db: Database, *, only_open: bool, limit: int, held: bool = False) -> list[Row]:
    """Return incidents as --json shows them, open ones first, then the newest.

    held asks for those that were held back, which are no alerts otherwise.
    """
    which = HELD if held else f"NOT {HELD}"
    rows = db.query(
        f"SELECT * FROM incidents WHERE (closed IS NULL OR NOT ?) AND {which} "
        "ORDER BY closed IS NOT NULL, updated DESC, id LIMIT ?",
        (only_open, limit),
    )
    names = user_names(db)
    return [_incident(row, names) for row in rows]


def questions(db: Database) -> list[Row]:
    """Return the incidents whose answer would teach most, as `alerts` does, the first to ask
    first; those that were held back are among them."""
    from guardian.asking import line_of, to_ask  # noqa: PLC0415 - numpy: only who asks pays for it

    lines = {b["digest"]: line_of(b["manifest"]) for b in db.query("SELECT * FROM bundles")}
    rows = list(db.query("SELECT * FROM incidents"))
    names = user_names(db)
    return [_incident(row, names) for row in to_ask(rows, lines)]


def spent(db: Database, now: int) -> Row:
    """Return how much of the week's alerts is spent and what was held back, as of `now` (ns)."""
    limit = [row["value"] for row in db.query("SELECT value FROM meta WHERE key = 'alerts_a_week'")]
    week = now - WEEK_NS
    told = _one(db, "change = 'opened' AND at >= ?", week)
    return {
        "a_week": int(limit[0]) if limit else 0,
        "told": told,
        "held": _one(db, "change = 'held' AND at >= ?", week),
        "held_ever": _one(db, "change = 'held' AND at >= ?", 0),
        "held_weeks": db.execute(
            "SELECT count(DISTINCT (? - at) / ?) FROM incident_events WHERE change = 'held'",
            (now, WEEK_NS),
        ).fetchone()[0],
        "weeks": _weeks(db, now),
    }


def _one(db: Database, condition: str, since: int) -> int:
    sql = (
        f"SELECT count(*) FROM incident_events WHERE {condition} "
        "AND incident NOT IN (SELECT id FROM incidents WHERE mac = ?)"  # fire drills
    )
    return int(db.execute(sql, (since, DRILL_MAC)).fetchone()[0])


def _weeks(db: Database, now: int) -> int:
    """Return the weeks that the database knows incidents of, the running one included."""
    first = db.execute("SELECT min(at) FROM incident_events").fetchone()[0]
    return 0 if first is None else (now - first) // WEEK_NS + 1


def said_of(spent: Row) -> str:
    """Return the state of the week's alerts as a sentence; empty without a limit or holding."""
    if not spent["a_week"] and not spent["held_ever"]:
        return ""
    limit = f"at most {spent['a_week']}" if spent["a_week"] else "no limit any more"
    rule = f"{limit}, high severity and plain rules always"
    out = f"{spent['told']} told in the last seven days ({rule})"
    if not spent["held_ever"]:
        return f"{out}; none was ever held back"
    return (
        f"{out}; {spent['held']} held back; the limit was reached in {spent['held_weeks']} of "
        f"{spent['weeks']} weeks, {spent['held_ever']} held back in all"
    )


def incident(db: Database, prefix: str, now: int) -> Row:
    """Return the one incident whose id begins with `prefix`, with its history.

    `said` has the rules that hold at `now` (ns) for its device and cause.

    Raises StoreError where there is none or more than one.
    """
    found = list(
        db.query(
            "SELECT * FROM incidents WHERE substr(id, 1, length(:prefix)) = :prefix "
            "ORDER BY id <> :prefix, updated DESC LIMIT 6",
            {"prefix": prefix},
        )
    )
    if not found or not prefix:
        raise StoreError(f"no incident {prefix!r}: guardian alerts lists them")
    if len(found) > 1 and found[0]["id"] != prefix:
        ids = ", ".join(row["id"] for row in found[:5])
        raise StoreError(f"{prefix!r} may be {ids}: give more of the id")
    out = _incident(found[0], user_names(db))
    out["history"] = [
        {"at": row["at"] / NS, "change": row["change"], "severity": row["severity"]}
        for row in db.query(
            "SELECT at, change, severity FROM incident_events WHERE incident = ? ORDER BY id",
            (out["id"],),
        )
    ]
    device, cause = found[0]["device"], out["cause"]
    out["said"] = [
        rule for rule in rules(db, now)
        if rule["kind"] != "snooze"
        and rule["device"] in (None, device) and rule["cause"] in (None, cause)
    ]  # fmt: skip
    answers = db.query(
        "SELECT id FROM commands WHERE kind = 'feedback' AND result = 'ok' "
        "AND json_extract(args, '$.incident') = ? ORDER BY created DESC, id DESC LIMIT 1",
        (out["id"],),
    )
    out["answered_by"] = next((row["id"] for row in answers), None)
    bundle = list(db.query("SELECT name FROM bundles WHERE digest = ?", (found[0]["bundle"],)))
    out["bundle"] = bundle[0]["name"] if bundle else ""
    return out


def _incident(row: Row, names: dict[str, str]) -> Row:
    out: Row = {key: row[key] for key in INCIDENT}
    for key in _TIMES:
        out[key] = None if row[key] is None else row[key] / NS
    name = names.get(row["device"]) or row["name"]
    out["device"] = {"mac": row["mac"], "ip": row["ip"], "name": name}
    out.update(json.loads(row["evidence"]))
    return out


def user_names(db: Database) -> dict[str, str]:
    """Return the user's names by device key: they hold for older incidents, too, and for the other
    MACs of a device."""
    rows = db.query("SELECT key, user_name FROM devices WHERE user_name IS NOT NULL")
    names = {row["key"]: row["user_name"] for row in rows}
    for row in db.query("SELECT key, same_as FROM kin WHERE state = 'linked'"):
        if row["same_as"] in names:
            names[row["key"]] = names[row["same_as"]]
    return names


def linked_mac(db: Database, text: str) -> str:
    """Return the MAC meant, where it is linked to a device or the user is asked; else empty."""
    plain = text.strip().lower().replace("-", ":")
    found = db.query("SELECT key FROM kin WHERE key = ? AND state IN ('asked', 'linked')", (plain,))
    return next((str(row["key"]) for row in found), "")


def find_device(db: Database, text: str) -> Row:
    """Return the device with this key, MAC, address or name, or whose name begins so.

    Raises StoreError where there is none or more than one.
    """
    wanted = text.strip().lower()
    plain = wanted.replace("-", ":")
    address = _address(wanted)
    everyone = devices(db, 0)
    found = [
        d for d in everyone
        if wanted == d["key"].lower() or plain in (d["mac"], *d["macs"])
        or address in d["addresses"]
    ]  # fmt: skip
    found = found or [d for d in everyone if str(d["name"]).lower() == wanted]
    found = found or [d for d in everyone if wanted and str(d["name"]).lower().startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise StoreError(f"no device {text!r}: guardian devices lists them")
    keys = ", ".join(d["key"] for d in found[:5])
    raise StoreError(f"{text!r} may be {keys}: give one of these")


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def running(db: Database, now: int) -> bool:
    """Return whether the daemon wrote lately."""
    facts = {row["key"]: row["value"] for row in db.query("SELECT key, value FROM meta")}
    return facts.get("ended") == "unclean" and now - int(facts.get("last_commit", 0)) < RUNNING_NS
