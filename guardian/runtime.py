"""Puts a pipeline together from the settings; shared by daemon, replay and score."""

from __future__ import annotations

import gc
from pathlib import Path

from guardian import bundle as bundles
from guardian.addresses import Lan, mac_pack
from guardian.alerts import IncidentTable
from guardian.bundle import Bundle
from guardian.bundlehome import BundleHome
from guardian.config import Settings
from guardian.devices import DeviceTable
from guardian.errors import ConfigError
from guardian.pipeline import Pipeline
from guardian.privacy import NO_HOSTS, Privacy


def load_bundle(settings: Settings) -> Bundle:
    """Return the bundle that the settings name, checked; the shipped one by default.

    One that they name must be signed where they have a key; the shipped one came with the program.
    """
    if not settings.model.bundle:
        return bundles.load(bundles.default_path())
    return bundles.load(Path(settings.model.bundle), key=settings.model.key)


def daemon_bundle(settings: Settings, *, starting: bool = True) -> Bundle:
    """Return the bundle that a daemon uses: as `load_bundle`, but the one installed last where the
    settings name none. `starting` counts the starts with a new one, which may make the daemon fall.
    """
    if settings.model.bundle:
        return load_bundle(settings)
    home = BundleHome.beside(settings.store.path, settings.model.key)
    return home.begin() if starting else home.chosen()


def rarely_collect() -> None:
    """Look for garbage less often: a batch makes thousands of rows, nearly all of which go by
    themselves, and a home's memory is large to look through. Of the pipeline's time it is a
    thirtieth (tests/bench_home.py)."""
    gc.set_threshold(10_000)


def open_pipeline(
    settings: Settings,
    bundle: Bundle,
    *,
    lan: tuple[str, ...] = (),
    gateway_macs: tuple[str, ...] = (),
    gateway_addresses: tuple[str, ...] = (),
    utc_offset_s: int = 0,
    seed: int = 0,
    live: bool = False,
    incidents: type[IncidentTable] = IncidentTable,
) -> Pipeline:
    """Return a fresh pipeline.

    lan is what the interface tells, used where the settings name no network; gateway_* are the
    addresses of this very machine.
    """
    rarely_collect()
    home = Lan(settings.home.lan or lan)
    devices = DeviceTable(
        home,
        gateway_macs=tuple(_mac(text) for text in (*settings.home.gateway_macs, *gateway_macs)),
        gateway_addresses=gateway_addresses,
        names=settings.home.names,
        learn_names=settings.privacy.level < NO_HOSTS,
    )
    return Pipeline(
        bundle,
        home,
        devices,
        ignore_checksums=settings.capture.ignore_checksums,
        counters=settings.model.counters,
        # A replay tells all that it finds.
        adapt=settings.alerts.adapt,
        alerts_a_week=settings.alerts.a_week if live else 0,
        utc_offset_s=utc_offset_s,
        seed=seed,
        live=live,
        privacy=Privacy(settings.privacy.level, home),
        incidents=incidents,
    )


def _mac(text: str) -> int:
    try:
        return mac_pack(text)
    except ValueError as error:
        raise ConfigError(f"home.gateway_macs: {error}; write it like aa:bb:cc:dd:ee:ff") from error
