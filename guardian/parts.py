"""The parts of a running daemon, by name; one of them may be replaced while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from guardian.config import NotifySettings
from guardian.live import LiveCapture
from guardian.outlets import Outlets
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.store import Store


@dataclass
class Parts:
    """What works together. Who keeps one of them longer than a step must expect another here."""

    live: LiveCapture
    pipeline: Pipeline
    store: Store
    publisher: Publisher
    recorder: Recorder
    polling: Polling
    outlets: Outlets = field(default_factory=lambda: Outlets(NotifySettings()))
    """Receivers of incidents beside the hub; none by default."""
