"""A client of the broker made from the settings, and what is wrong with one, in words."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Iterable
from typing import Any

from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from guardian.boundedclient import BoundedClient
from guardian.config import MqttSettings, mqtt_password
from guardian.errors import ConfigError, GuardianError
from guardian.pahopair import listen_nowhere

KEEPALIVE_S = 30
"""Seconds after which a silent broker is taken for gone (at 1.5 times it says we are gone)."""

CONNECT_S = 5.0
"""Seconds that a connection attempt may take."""


class BrokerError(GuardianError):
    """A broker that cannot be reached or refuses."""


HEAR_S = 1.0
"""Seconds that a retained message may take after we asked for its topic."""


def check_broker(settings: MqttSettings) -> None:
    """Connect to the broker once. Raises BrokerError or ConfigError with a sentence."""
    _visit(settings, "")


def hear_birth(settings: MqttSettings) -> str:
    """Return what the hub left on its birth topic, such as `online`; empty where nothing is kept.

    Raises BrokerError or ConfigError with a sentence.
    """
    return _visit(settings, f"{settings.discovery_prefix.rstrip('/')}/status")


def _visit(settings: MqttSettings, topic: str) -> str:
    """Connect once; with a topic, return what is kept there."""
    client = make_client(settings, f"guardian-check-{secrets.token_hex(4)}")
    answers: list[Any] = []
    heard: list[str] = []
    client.on_connect = lambda _c, _u, _f, reason, _p: answers.append(reason)
    client.on_message = lambda _c, _u, m: heard.append(m.payload[:40].decode("ascii", "replace"))
    place = where(settings)
    try:
        client.connect(settings.host, settings.port, KEEPALIVE_S, properties=client.promised())
        deadline = time.monotonic() + CONNECT_S
        while not answers and time.monotonic() < deadline and client.loop(0.1) == 0:
            pass
        if topic and answers and not answers[0].is_failure:
            client.subscribe(topic)
            deadline = time.monotonic() + HEAR_S
            while not heard and time.monotonic() < deadline and client.loop(0.1) == 0:
                pass
    except (OSError, ValueError) as error:
        raise BrokerError(f"the broker at {place}: {no_connection(error)}") from error
    finally:
        client.disconnect()
        client.loop(0.1)
        client.hang_up()
    if not answers:
        more = ""
        if (settings.ca or settings.tls) and not settings.certificate:
            # A broker that asks for one says so after TLS 1.3's handshake, by hanging up.
            more = ", or set mqtt.certificate if it asks for one"
        raise BrokerError(
            f"{place} does not answer as an MQTT broker: correct [mqtt] host and port{more}"
        )
    if answers[0].is_failure:
        raise BrokerError(f"the broker at {place}: {refusal(answers[0])}")
    return heard[0] if heard else ""


def wipe(settings: MqttSettings, topics: Iterable[str]) -> None:
    """Have the broker forget what it keeps on topics. Raises BrokerError or ConfigError."""
    client = make_client(settings, f"guardian-wipe-{secrets.token_hex(4)}")
    try:
        client.connect(settings.host, settings.port, KEEPALIVE_S)
        client.loop_start()
        for told in [client.publish(topic, "", qos=1, retain=True) for topic in topics]:
            told.wait_for_publish(CONNECT_S)
    except (OSError, ValueError, RuntimeError) as error:
        raise BrokerError(f"the broker at {where(settings)}: {no_connection(error)}") from error
    finally:
        client.disconnect()
        client.loop_stop()


def make_client(settings: MqttSettings, client_id: str) -> BoundedClient:
    """Return a client that is not connected yet. Raises ConfigError where that cannot be right."""
    listen_nowhere()
    client = BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        reconnect_on_failure=False,
        protocol=MQTTProtocolVersion.MQTTv5
        if settings.version == "5"
        else MQTTProtocolVersion.MQTTv311,
        transport="websockets" if settings.transport == "websockets" else "tcp",
    )
    client.connect_timeout = CONNECT_S
    try:
        settings.host.encode("idna")
    except UnicodeError as error:
        raise ConfigError(
            f"mqtt.host = {settings.host!r} is no host name: write a name or an address"
        ) from error
    if settings.transport == "websockets":
        if not settings.path.startswith("/"):
            raise ConfigError(f"mqtt.path = {settings.path!r} must begin with /, like /mqtt")
        client.ws_set_options(path=settings.path)
    if settings.username:
        client.username_pw_set(settings.username, mqtt_password(settings))
    _secure(client, settings)
    return client


def _secure(client: BoundedClient, settings: MqttSettings) -> None:
    """Switch TLS on where the settings ask for it. Raises ConfigError."""
    if settings.certificate_key and not settings.certificate:
        raise ConfigError("mqtt.certificate_key has no certificate: set mqtt.certificate, too")
    if not (settings.ca or settings.tls or settings.certificate):
        return
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
        if settings.ca:
            # Python 3.13 refuses authorities that lack a key usage, as most made at home do.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"mqtt.ca = {settings.ca!r} cannot be used ({_why(error)}): give the file of the "
            "broker's certificate authority in PEM"
        ) from error
    if settings.certificate:
        try:
            # A key with a password would be asked for on a terminal that is not there.
            context.load_cert_chain(
                settings.certificate, settings.certificate_key or None, password=""
            )
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"mqtt.certificate = {settings.certificate!r} cannot be used ({_why(error)}): give "
                "it and its key (mqtt.certificate_key, without a password) in PEM"
            ) from error
    client.tls_set_context(context)


def where(settings: MqttSettings) -> str:
    """Return the broker as people name it."""
    return f"{settings.host}:{settings.port}"


def no_connection(error: object) -> str:
    """Return why there is no connection, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted ({error.verify_message}): set mqtt.ca to the file of "
            "its certificate authority, and mqtt.host to a name in the certificate"
        )
    if "CERTIFICATE_REQUIRED" in str(error):
        return "it asks for a certificate: set mqtt.certificate and mqtt.certificate_key"
    return f"no connection ({_why(error)}): start it, or correct [mqtt] host and port"


def _why(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def refusal(reason: Any) -> str:
    """Return why the broker refused, and what to do."""
    text = str(reason)
    if text in {"Not authorized", "Bad user name or password"}:
        return "it refused the user name or password: set mqtt.username and mqtt.password"
    return f"it refused the connection ({text})"
