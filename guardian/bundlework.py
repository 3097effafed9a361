"""What `guardian bundle` does; its words are in bundlecli.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from guardian import bundle as bundles
from guardian.bundle import Bundle
from guardian.bundlehome import BACK, BundleHome
from guardian.bundleready import REHEARSED_S, summary
from guardian.config import Settings
from guardian.const import NS
from guardian.errors import BundleError, GuardianError
from guardian.options import settings_of
from guardian.shell import leave, print_json
from guardian.tell import harmless, paragraph
from guardian.trial import Trial


def _place(config: Path | None, db: Path | None) -> tuple[Settings, Path, BundleHome]:
    settings = settings_of(config)
    path = db or Path(settings.store.path)
    return settings, path, BundleHome.beside(path, settings.model.key)


def status(config: Path | None, db: Path | None, as_json: bool) -> None:
    """Show which bundle judges, which lies ready, which was before."""
    settings, _, home = _place(config, db)
    named = settings.model.bundle
    found = {
        "used": _about(Path(named) if named else home.current, home.key),
        "ready": _about(home.ready, home.key),
        "before": _about(home.previous, home.key),
    }
    if found["used"] is None and not named:
        found["used"] = _about(bundles.default_path(), "")
    elif found["before"] is None and not named:
        found["before"] = _about(bundles.default_path(), "")
    last = home.last()
    if as_json:
        print_json({**found, "fixed": bool(named), "on_trial": home.on_trial, "last": last})
        return
    for which, one in found.items():
        click.echo(f"{which:7} {_line(one) if one else 'none'}")
    if named:
        click.echo(paragraph("[model] bundle names it: nothing is installed beside it."))
    if home.on_trial:
        click.echo(paragraph("It is new: it is taken back if the daemon falls with it."))
    if last:
        why = f": {harmless(str(last.get('why')))}" if last.get("why") else ""
        what, name = str(last.get("what")), str(last.get("bundle") or "what lay ready")
        said = harmless(f"back to {name}" if what == BACK else f"{name} was {what}")
        click.echo(paragraph(f"Last: {said}{why}."))
        _say_rehearsal(last.get("rehearsal"))


def _about(folder: Path, key: str) -> dict[str, Any] | None:
    """Return what a folder holds; None where there is none."""
    try:
        if not (folder / bundles.MANIFEST).exists():
            return None
        found = bundles.load(folder, key=key)
    except (GuardianError, OSError) as error:
        return {"folder": str(folder), "fault": str(error)}
    return {
        "folder": str(folder), "name": found.name, "version": found.version,
        "digest": found.digest, "created": found.created, "models": found.classifier.form,
        "summary": summary(found),
    }  # fmt: skip


def _line(one: dict[str, Any]) -> str:
    if "fault" in one:
        return harmless(f"broken: {one['fault']}")
    return harmless(
        f"{one['name']} {one['version']} ({one['digest'][:12]}), {one['models']}, {one['folder']}"
    )


def rehearse(folder: Path | None, config: Path | None, db: Path | None, as_json: bool) -> None:
    """Try a bundle in a child process and say what would change."""
    settings, path, home = _place(config, db)
    beside = Path(settings.model.bundle) if settings.model.bundle else home.current
    trial = Trial(
        folder or home.ready,
        key=home.key,
        db=path,
        beside=beside if beside.is_dir() else None,
        since=time.time_ns() - REHEARSED_S * NS,
        counters=settings.model.counters,
        lan=settings.home.lan,
    )
    try:
        found = trial.wait()
    finally:
        trial.close()
    if as_json:
        print_json(found)
        return
    click.echo(harmless(f"{found['name']} {found['version']} loads and gives its golden outputs."))
    _say_rehearsal(found["rehearsal"])


def _say_rehearsal(found: Any) -> None:
    if not isinstance(found, dict):
        return
    for key, head in (("opened", "would be opened"), ("gone", "would no longer be opened")):
        some = [str(one) for one in found.get(key, ())]
        click.echo(f"{len(some)} {head}")
        for one in some:
            click.echo(paragraph(harmless(one), 2))
    click.echo(f"{found.get('changed', 0)} would be told otherwise, {found.get('same', 0)} as now")
    for sentence in found.get("worse", ()):
        click.echo(paragraph(harmless(f"Not to be installed: {sentence}")))
    for note in found.get("notes", ()):
        click.echo(paragraph(harmless(f"Note: {note}")))


def install(
    folder: Path | None, anyway: bool, config: Path | None, db: Path | None, as_json: bool
) -> None:
    """Lay a bundle ready where one is named, and leave the daemon the command."""
    settings, path, home = _place(config, db)
    if settings.model.bundle:
        raise BundleError("[model] bundle names a bundle: empty it to install others")
    found = _laid(home, folder)
    said = f"bundle {found.name} {found.version} shall take over"
    leave(path, "install", {"anyway": anyway}, said, as_json, undo="guardian bundle rollback")


def _laid(home: BundleHome, folder: Path | None) -> Bundle:
    if folder is not None:
        home.lay(folder)
    if not (home.ready / bundles.MANIFEST).is_file():
        raise BundleError(f"no bundle lies in {home.ready}: name its folder")
    return bundles.load(home.ready, key=home.key)


def rollback(config: Path | None, db: Path | None, as_json: bool) -> None:
    """Leave the daemon the command to go back."""
    _, path, home = _place(config, db)
    if not home.current.is_dir() and not home.previous.is_dir():
        raise BundleError("there is no bundle to go back to: the shipped one is in use")
    leave(path, "rollback", {}, "the bundle before shall judge again", as_json)
