"""The whole course: every subject through a bundle, and the report that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from guardian import bundle as bundles
from guardian.errors import InputError
from guardian.evidence import EvidenceSettings
from trainer import joy
from trainer.catalogue import JOY
from trainer.trial import report
from trainer.trial.bench import GATEWAY, MODELS, Bench, Rivals
from trainer.trial.figures import Case, Pools, family_of, infected_of
from trainer.trial.grafts import (
    Guest,
    Host,
    chosen,
    guest_of,
    hosts_of,
    lookalikes,
    mixed,
    placebo_of,
    simulated,
)
from trainer.trial.subjects import ATTACK, HOME, SETUP, Subject, subjects
from trainer.trial.taken import Taken, take

Echo = Callable[[str], None]

HOSTS_AN_ATTACK, HOSTS_AN_INFECTION = 6, 4
"""Lives that each guest is put into."""
MOST_GUESTS = 3
"""Of a subject of many captures."""
SEED = 20_261_122

IN_PLACE, HOMES, GRAFTED, SIMULATED = "in place", "homes", "grafted", "simulated"
LOOKALIKES = "look-alikes"
PARTS = (IN_PLACE, HOMES, GRAFTED, SIMULATED)


@dataclass
class Course:
    """What was parsed and judged so far; captures are parsed once."""

    bench: Bench
    data: Path
    echo: Echo
    taken: dict[str, list[Taken]] = field(default_factory=dict)
    cases: dict[str, list[Case]] = field(default_factory=dict)
    """By the subject's name."""

    def take(self, subject: Subject) -> list[Taken]:
        """Parse the captures of a subject. Raises InputError where there is none."""
        if subject.name not in self.taken:
            paths = subject.paths(self.data)
            if not paths:
                raise InputError(
                    f"{self.data} lacks {subject.patterns[0]}: give the folder of captures with"
                    " --data"
                )
            mac = "" if subject.infected.startswith("ip:") else subject.infected
            self.taken[subject.name] = [
                Taken(*joy.read(path, lan=subject.lan, judge=subject.judge), (), None)
                if subject.form == JOY
                else take(path, lan=subject.lan, judge=subject.judge, infected=mac)
                for path in paths
            ]
        return self.taken[subject.name]

    def judge(self, subject: Subject) -> list[Case]:
        """Judge a subject as it was recorded."""
        if subject.name not in self.cases:
            self.cases[subject.name] = [
                self.case(subject, one) for one in self.take(subject) if len(one.stream)
            ]
        return self.cases[subject.name]

    def case(self, subject: Subject, one: Taken) -> Case:
        """Judge one capture of a subject as it was recorded."""
        played = self.bench.play(one.stream, one.devices, one.arps)
        keys = {device.index: device.key for device in one.devices.devices()}
        infected = infected_of(played, keys)
        if subject.infected:
            moments = one.malice if one.malice is not None else one.stream.slices.ts
            life = played.lives.get(subject.infected)
            first = int(moments.min()) if one.malice is not None or not life else life[0]
            infected = {subject.infected: first}
        classes = {key: subject.class_of(key) for key in (*keys.values(), subject.infected)}
        return Case(
            subject.name, frozenset({subject.group}), played, infected, one.malice,
            family_of(played.label), classes,
        )  # fmt: skip

    def graft(self, host: Host, guest: Guest, share: float) -> Case:
        """Judge a guest in a host's life. Of a placebo all is benign, and `infected` says where and
        when it was put."""
        put = mixed(host, guest, share)
        played = self.bench.play(put.stream, host.taken.devices)
        key = host.taken.key(host.device)
        malice = None if guest.malice is None else guest.malice + put.delta
        return Case(
            f"{guest.name} in {host.name}", frozenset({host.group, guest.group}), played,
            {key: put.start}, malice, guest.family, {key: host.kind},
        )  # fmt: skip


def judge_bundle(
    folder: Path,
    data: Path,
    *,
    only: Collection[str] = PARTS,
    rivals: Rivals | None = None,
    full_week: bool = False,
    echo: Echo = print,
) -> dict[str, Any]:
    """Judge a bundle on all captures for evaluation alone and return the report.

    `only` names the PARTS that are wanted; the benign homes are judged with any of them, since
    all lines rest on them. With full_week as much evidence is asked as where a week's limit is
    spent. Raises BundleError and InputError where something cannot be read.
    """
    bundle = bundles.load(folder)
    asked = in_a_full_week(EvidenceSettings()) if full_week else EvidenceSettings()
    course = Course(Bench.of(bundle, rivals, evidence=asked), data, echo)
    found = walk(course, subjects(), only)
    about = {"name": bundle.name, "version": bundle.version, "digest": bundle.digest}
    return {"bundle": about, **found}


def in_a_full_week(usual: EvidenceSettings) -> EvidenceSettings:
    """Return settings with as much asked as where a week's limit is spent."""
    more = 1.0 + usual.week_more
    settled, young, joining = (
        usual.asked(young=young, joining=joining).part(more)
        for young, joining in ((False, False), (True, False), (True, True))
    )
    return replace(
        usual,
        open_at=settled.level, open_rows=settled.rows,
        young_open_at=young.level, young_open_rows=young.rows,
        joining_open_at=joining.level, joining_open_rows=joining.rows,
    )  # fmt: skip


def walk(course: Course, every: Sequence[Subject], only: Collection[str]) -> dict[str, Any]:
    """Judge subjects as they were recorded and in others' lives, and return the report."""
    begun = time.monotonic()
    wanted = [s for s in every if s.kind != ATTACK or IN_PLACE in only]
    for number, subject in enumerate(wanted, 1):
        course.judge(subject)
        spent = time.monotonic() - begun
        left = spent / number * (len(wanted) - number)
        course.echo(f"{subject.name}; {number} of {len(wanted)}, about {left:.0f} s left")
    found = told(course, wanted)
    pools = Pools(homes_of(course, wanted))
    hosts = [h for s in every if s.kind == HOME for one in course.take(s) for h in hosts_of(s, one)]
    if GRAFTED in only:
        attacks = (
            (s, one) for s in every if s.kind == ATTACK for one in course.take(s)[:MOST_GUESTS]
        )
        guests = [guest for s, one in attacks if (guest := guest_of(s, one)) is not None]
        found |= insert(course, GRAFTED, guests, hosts, pools, HOSTS_AN_ATTACK)
    if SIMULATED in only:
        course.echo("simulating infections")
        found |= insert(course, SIMULATED, list(simulated()), hosts, pools, HOSTS_AN_INFECTION)
        found[LOOKALIKES] = alike(course, list(lookalikes()), hosts)
    return found


def told(course: Course, wanted: Sequence[Subject]) -> dict[str, Any]:
    """Return the report of what a course has judged as it was recorded."""
    pools = Pools(homes_of(course, wanted))
    rows = [report.home_row(s, course.cases[s.name]) for s in wanted if s.kind != ATTACK]
    attacks = [
        report.attack_row(s, course.cases[s.name], pools) for s in wanted if s.kind == ATTACK
    ]
    # A capture of what came from outside alone has no known device of the home in it.
    judged = [row for row in attacks if row[GATEWAY]["infected"]]
    setups = [row for row in rows if row["kind"] == SETUP]
    return {
        IN_PLACE: report.part(judged),
        "no device": [row["capture"] for row in attacks if not row[GATEWAY]["infected"]],
        HOMES: rows,
        "rates": report.false_rates(rows),
        "setups": {
            "captures": sum(row["captures"] for row in setups),
            **{w: sum(row[w]["captures_with_one"] for row in setups) for w in (GATEWAY, MODELS)},
        },
    }


def homes_of(course: Course, wanted: Sequence[Subject]) -> list[Case]:
    """Return the judged cases of benign homes and set-ups."""
    return [case for s in wanted if s.kind != ATTACK for case in course.cases[s.name]]


def insert(
    course: Course, name: str, guests: list[Guest], hosts: list[Host], pools: Pools, count: int
) -> dict[str, Any]:
    """Judge guests in the lives of hosts, each beside its placebo; return that part of the report.

    A host is never of the guest's network, nor is its placebo's device of the host's.
    """
    rng = np.random.default_rng(SEED)
    rows, shams = [], []
    begun = time.monotonic()
    for number, guest in enumerate(guests):
        others = [h for h in hosts if h.group != guest.group]
        trials = []
        for host in chosen(others, number, count):
            strange = [h for h in hosts if h.group != host.group]
            share = float(rng.uniform(0.4, 0.8))
            sham = placebo_of(strange[int(rng.integers(len(strange)))], rng)
            pair = (course.graft(host, guest, share), course.graft(host, sham, share))
            trials.append(pair)
            shams.append(pair[1])
        rows.append(report.graft_row(guest.name, guest.family, trials, pools))
        spent = time.monotonic() - begun
        left = spent / (number + 1) * (len(guests) - number - 1)
        course.echo(f"{name}: {guest.name}; {number + 1} of {len(guests)}, about {left:.0f} s left")
    return {name: report.part(rows) | {"placebo": report.placebo(shams, pools)}}


def alike(course: Course, guests: list[Guest], hosts: list[Host]) -> list[dict[str, Any]]:
    """Judge benign events in the lives of hosts; return what each raised."""
    rng = np.random.default_rng(SEED)
    out = []
    for number, guest in enumerate(guests):
        lives = chosen(hosts, number, HOSTS_AN_INFECTION)
        put = [course.graft(host, guest, float(rng.uniform(0.4, 0.8))) for host in lives]
        out.append(report.lookalike_row(guest.name, put))
    return out
