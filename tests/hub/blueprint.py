"""The blueprint as a person takes it: imported by its address, made into an automation."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.broker import until
from tests.hub.hass import Hass


class Quiet(http.server.SimpleHTTPRequestHandler):
    """What `python3 -m http.server` is, without its words."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; give its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def take(hub: Hass, folder: Path) -> None:
    """Import phone.yaml as Settings, Automations, Blueprints, Import does, and make use of it."""
    with served(folder) as address:
        url = f"{address}/phone.yaml"
        found = hub.command(type="blueprint/import", url=url)
    assert found["validation_errors"] is None, found
    assert found["suggested_filename"] == "127.0.0.1/phone"
    assert found["blueprint"]["metadata"]["source_url"] == url
    path = f"{found['suggested_filename']}.yaml"
    hub.command(
        type="blueprint/save", domain="automation", path=path, yaml=found["raw_data"],
        source_url=url,
    )  # fmt: skip
    listed = hub.command(type="blueprint/list", domain="automation")
    assert listed[path]["metadata"]["name"] == "Guardian on the phone"
    automation = {
        "alias": "Guardian", "use_blueprint": {"path": path, "input": {"notify": "notify.phone"}},
    }  # fmt: skip
    hub.ask("POST", "/api/config/automation/config/guardian", automation)
    until(lambda: hub.state("automation.guardian") == "on", "the automation runs")
