"""Programs that the live test runs inside its namespaces: `python -m tests.live_peers ROLE`.

Real sockets on both sides: a TLS server, a DNS server, a device that uses them, a device that
scans, and a listener at the broker.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import struct
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def serve(certificate: str, key: str) -> None:
    """Answer DNS on 53/udp with one address, and HTTP over TLS on 443, until killed."""
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind(("0.0.0.0", 53))
    threading.Thread(target=answer_dns, args=(dns,), daemon=True).start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("0.0.0.0", 443))
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=answer_tls, args=(context, client), daemon=True).start()


def answer_dns(sock: socket.socket) -> None:
    while True:
        question, peer = sock.recvfrom(512)
        end = question.index(b"\0", 12) + 5
        head = question[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH4s", 1, 1, 60, 4, socket.inet_aton("203.0.113.2"))
        sock.sendto(head + question[12:end] + record, peer)


def answer_tls(context: ssl.SSLContext, client: socket.socket) -> None:
    with client, context.wrap_socket(client, server_side=True) as secure:
        secure.recv(4096)
        secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000)


def live(server: str, visits: int) -> None:
    """Look up a name and fetch a page over TLS, a few times, as a quiet device does."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for number in range(visits):
        name = b"".join(bytes([len(p)]) + p for p in (b"cloud", b"example", b"org")) + b"\0"
        query = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + name + b"\0\x01\0\x01"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
            dns.settimeout(5)
            dns.sendto(query, (server, 53))
            dns.recv(512)
        with (
            socket.create_connection((server, 443), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="cloud.example.org") as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: cloud.example.org\r\n\r\n")
            got = 0
            while got < 20_000:
                part = secure.recv(65_536)
                if not part:
                    break
                got += len(part)
        time.sleep(0.5)


def scan(server: str, ports: int, seed: int) -> None:
    """Try many ports of a host, fast, as a port scan does; prints when it began."""
    order = random.Random(seed).sample(range(1, 10_000), ports)
    print(time.time(), flush=True)
    for port in order:
        with socket.socket() as sock:
            sock.settimeout(0.05)
            sock.connect_ex((server, port))
        time.sleep(0.01)


def listen(port: int) -> None:
    """Print what the broker hears as JSON lines: time, topic, payload, retained."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda c, *_: c.subscribe("#", qos=1)
    client.on_message = lambda _c, _u, m: print(
        json.dumps([time.time(), m.topic, m.payload.decode(), m.retain]), flush=True
    )
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    if role == "serve":
        serve(words[0], words[1])
    elif role == "live":
        live(words[0], int(words[1]))
    elif role == "scan":
        scan(words[0], int(words[1]), int(words[2]))
    else:
        listen(int(words[0]))
