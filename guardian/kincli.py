"""`guardian devices --link` and `--unlink`: the same device under another MAC."""

from __future__ import annotations

from pathlib import Path

from guardian import reading
from guardian.errors import GuardianError
from guardian.shell import find, leave
from guardian.tell import harmless, paragraph


def questions(found: list[reading.Row]) -> list[str]:
    """Return what the user is asked, a paragraph for each device that may be an earlier one."""
    names = {d["key"]: harmless(d["name"]) for d in found}
    return [
        paragraph(
            f"Is {names[d['key']]} ({d['key']}) the device that was {names[d['maybe']['device']]} "
            f"({d['maybe']['device']}) under another MAC? {d['maybe']['reason'].capitalize()}."
        )
        + f"\n  yes: guardian devices --link {d['key']} {d['maybe']['device']}"
        + f"\n  no:  guardian devices --unlink {d['key']}"
        for d in found
        if d["maybe"] and d["maybe"]["device"] in names
    ]


def link_devices(path: Path, new: str, old: str, as_json: bool) -> None:
    """Leave the word that NEW is OLD. Raises GuardianError with a sentence."""
    first, called = find(path, new)
    second, named = find(path, old)
    if first == second:
        raise GuardianError(f"{new!r} and {old!r} are one device already: {first}")
    if first.startswith("ip:") or second.startswith("ip:"):
        raise GuardianError("only devices whose MAC is seen can be linked")
    said = (
        f"what comes from {first} ({called}) is {named} ({second}) from now on; its name, what you "
        "said of it and its past hold for both"
    )
    leave(
        path, "link", {"device": first, "old": second}, said, as_json,
        undo=f"guardian devices --unlink {first}",
    )  # fmt: skip


def unlink_device(path: Path, mac: str, as_json: bool) -> None:
    """Leave the word that a MAC is a device of its own. Raises GuardianError with a sentence."""
    with reading.reading(path) as tables:
        key = reading.linked_mac(tables, mac)
    if not key:
        raise GuardianError(
            f"{harmless(mac)} is linked to no other device, and nobody asked: guardian devices "
            "--json lists what is linked (macs) and asked (maybe)"
        )
    leave(path, "unlink", {"device": key}, f"{key} is a device of its own", as_json)
