"""Infections and look-alikes by name, and the usual chain of infections."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from guardian.errors import ConfigError
from guardian.simulate.arps import arp_spoof, arp_sweep
from guardian.simulate.bots import beacon, download
from guardian.simulate.desk import desk_work
from guardian.simulate.dial import Dial
from guardian.simulate.events import backup, device_setup, firmware_update, guest_phone, new_app
from guardian.simulate.exhaust import message_flood, slow_dos
from guardian.simulate.floods import syn_flood, udp_flood
from guardian.simulate.home import Habit, Host, World
from guardian.simulate.knobs import Knobs, Profile
from guardian.simulate.leaks import dns_exfiltration, dns_flood, exfiltration
from guardian.simulate.nearby import local_polls, public_resolver
from guardian.simulate.outage import outage
from guardian.simulate.outside import internet_scan, login_guess, remote_view
from guardian.simulate.relays import cloud_relays, home_store
from guardian.simulate.scans import local_scan, ssh_guess, telnet_scan
from guardian.simulate.scenario import Infection
from guardian.simulate.stealth import https_beacon_even, p2p_malware, slow_scan
from guardian.simulate.sweeps import ping_sweep, port_sweep

KINDS: dict[str, Callable[[World, Host, Random, Dial], Habit]] = {
    "telnet-scan": telnet_scan,
    "local-scan": local_scan,
    "ssh-guess": ssh_guess,
    "beacon": beacon,
    "download": download,
    "syn-flood": syn_flood,
    "udp-flood": udp_flood,
    "slow-scan": slow_scan,
    "arp-sweep": arp_sweep,
    "arp-spoof": arp_spoof,
    "dns-flood": dns_flood,
    "exfiltration": exfiltration,
    "dns-exfiltration": dns_exfiltration,
    "https-beacon-even": https_beacon_even,
    "p2p-malware": p2p_malware,
    "internet-scan": internet_scan,
    "login-guess": login_guess,
    "slow-dos": slow_dos,
    "message-flood": message_flood,
    "ping-sweep": ping_sweep,
    "port-sweep": port_sweep,
    "firmware-update": firmware_update,
    "new-app": new_app,
    "guest-phone": guest_phone,
    "device-setup": device_setup,
    "backup": backup,
    "remote-view": remote_view,
    "outage": outage,
    "local-polls": local_polls,
    "public-resolver": public_resolver,
    "cloud-relays": cloud_relays,
    "home-store": home_store,
    "desk-work": desk_work,
}


def infect(w: World, infection: Infection, profile: Profile, number: int) -> list[Knobs]:
    """Start an infection, or `infected`, the chain of a scan with guesses, a download, a beacon
    and a flood. Returns what was drawn.

    Raises ConfigError for an unknown kind, device or param.
    """
    known = [*KINDS, "infected"]
    if infection.kind not in known:
        raise ConfigError(f"{infection.kind!r} is no infection: choose one of {', '.join(known)}")
    host = w.hosts.get(infection.device)
    if host is None:
        raise ConfigError(
            f"{infection.device!r} is to be infected but is no device of this home: "
            f"choose one of {', '.join(w.hosts)}"
        )
    made: list[Knobs] = []
    used: set[str] = set()

    def start(kind: str, at: float) -> None:
        names = (host.name, kind, str(number))
        dial = Dial(Knobs(profile, w.rng(*names, "knobs"), kind), infection.params)
        habit = KINDS[kind](w, host, w.rng(*names), dial)
        next(habit)  # draws its rates
        w.spawn(at, habit)
        made.append(dial.k)
        used.update(dial.used)

    if infection.kind != "infected":
        start(infection.kind, infection.at)
    else:
        chain = Dial(
            Knobs(profile, w.rng(host.name, "chain", str(number)), "infected"), infection.params
        )
        made.append(chain.k)
        at = infection.at
        start("telnet-scan", at)
        at += chain("then-download", 20, 600)
        start("download", at)
        at += chain("then-beacon", 5, 120)
        start("beacon", at)
        at += chain("then-flood", 60, 1_800)
        start(chain.k.pick("flood", ("syn-flood", "udp-flood"), "udp-flood", "syn-flood"), at)
        used |= chain.used
    wrong = {name for name, _ in infection.params} - used
    if wrong:
        raise ConfigError(f"{infection.kind} has no rate called {', '.join(sorted(wrong))}")
    return made
