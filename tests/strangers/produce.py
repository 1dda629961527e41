"""Produces events as other people's programs do: confluent-kafka, fastavro, the CloudEvents SDK, Ed25519 of cryptography.

    produce.py lines EVENTS FOLDER              what kcat sends: FOLDER/kcat.tsv, FOLDER/kcat.ndjson
    produce.py send EVENTS FOLDER BROKERS RUN   sends to the topics of the run

Signs with FOLDER/press.key and FOLDER/lathe.key. All that is sent stands in FOLDER/ledger-*.ndjson.
"""

import base64
import hashlib
import io
import json
import sys
from datetime import timedelta
from pathlib import Path

import cbor2
import fastavro
from cloudevents.core.bindings import kafka as binding
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Producer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import Ledger, Topic, now, rfc3339

HERE = Path(__file__).parent
# The id of a schema in a registry that nobody here knows.
SCHEMA_ID = 77


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Device:
    """A device with its own code: all it has of Killick is the way an event is signed."""

    def __init__(self, source, key):
        self.source, self.key, self.public = source, key, key.public_key().public_bytes_raw()

    @classmethod
    def load(cls, path):
        file = json.loads(path.read_text())
        secret = base64.urlsafe_b64decode(file["secret"] + "=")
        return cls(file["source"], Ed25519PrivateKey.from_private_bytes(secret))

    def sign(self, tenant, id, time, kind, payload):
        micros = int(time.timestamp()) * 1_000_000 + time.microsecond
        digest = hashlib.sha256(payload).digest()
        claims = cbor2.dumps([tenant, self.source, id, micros, kind, digest])
        return self.key.sign(b"killick/event/v1\n" + claims)


def reading(machine, number, celsius):
    return json.dumps({"machine": machine, "reading": number, "at": rfc3339(now()), "celsius": celsius})


def lines(events, folder):
    """What kcat sends: keys and values with a tab between, and lines for `killick produce` to sign."""
    ledger = Ledger(folder / "ledger-kcat.ndjson")
    with open(folder / "kcat.tsv", "w", encoding="utf-8") as out:
        for number in range(events):
            machine = f"drill/{number % 5}"
            line = reading(machine, number, 20 + number % 13)
            ledger.event(machine, str(number), line.encode())
            print(machine, line, sep="\t", file=out)
            if number % 10 == 0:
                print(machine, line, sep="\t", file=out)
                ledger.copy()
            if number % 50 == 0:
                for poison in f"no JSON, line {number}", f'{{"machine": "drill/0", "at": "{rfc3339(now())}", "n": {number}}}':
                    print("poison", poison, sep="\t", file=out)
                    headers = [("site", b"north")]
                    ledger.letter("malformed", "readings", poison.encode(), b"poison", headers)
    device = Device.load(folder / "press.key")
    with open(folder / "kcat.ndjson", "w", encoding="utf-8") as out:
        for number in range(events):
            line = reading(device.source, f"signed by killick {number}", number)
            ledger.event(device.source, f"signed by killick {number}", line.encode(), signed=True)
            print(line, file=out)
    ledger.close()


def send_readings(topic, events, folder):
    """JSON as it comes, with copies of our own and of what kcat has sent, and changed copies of that."""
    for number in range(events):
        # Nothing but the bytes counts: so they are unlike any encoder's.
        machine, id = f"saw {number % 3} – \u00fc", f"{number}/{number % 7}"
        value = f'  {reading(machine, id, number)}\r\n'.encode()
        topic.send(value, machine, [("trace", b"\x00\xff"), ("trace", b"")])
        topic.ledger.event(machine, id, value)
        if number % 10 == 0:
            topic.copy(value, "another key")
    with open(folder / "kcat.tsv", encoding="utf-8") as file:
        sent = [line.rstrip("\n").split("\t") for line in file if line.startswith("drill")]
    for number, (key, line) in enumerate(sent[: events // 5]):
        if number % 4:
            topic.copy(line, key)
            continue
        changed = json.loads(line)
        # Twice in the file, so changed in its own way.
        changed["celsius"] = -number
        value = json.dumps(changed).encode()
        topic.send(value, key)
        topic.ledger.line(conflict=["plant", changed["machine"], str(changed["reading"])],
                          topic=topic.name, payload=base64.b64encode(value).decode())
    at = rfc3339(now())
    for value in [
        b"\xff\xfe\x00", b"", None, b"[]", b'{"reading": 1}', b"null", b'{"machine": "m", "reading": 1.5, "at": "%s"}' % at.encode(),
        b'{"machine": "m", "reading": "1", "at": "yesterday"}', b'{"machine": "", "reading": "1", "at": "%s"}' % at.encode(),
        b'{"machine": "a\\nb", "reading": "1", "at": "%s"}' % at.encode(), b"[" * 2_000,
    ]:
        topic.letter("malformed", value, b"\x00key\xff", [("kept", b"\x00\x01"), ("kept", b"twice"), ("empty", b"")])
    topic.letter("too-large", reading("m", "large", "x" * 5_000).encode(), "large")


def cloud_event(device, source, id, kind, data, time, signed):
    """An event of the SDK, and its payload."""
    payload = data if isinstance(data, bytes) else json.dumps(data).encode()
    attributes = {"id": id, "source": source, "type": kind, "time": time, "partitionkey": source}
    attributes["datacontenttype"] = "application/octet-stream" if isinstance(data, bytes) else "application/json"
    if signed:
        signature = device.sign("plant", id, time, kind, payload)
        attributes |= {"killicktenant": "plant", "killickkey": b64url(device.public), "killicksignature": b64url(signature)}
    return CloudEvent(attributes, data), payload


def send_cloud_events(topic, events, device):
    """Binary and structured, signed or not; each tenth goes out in both modes, which are copies of each other."""
    modes = [binding.to_binary_event, binding.to_structured_event]

    def send(message, by=topic.send):
        by(message.value, message.key, message.headers.items())

    for number in range(events):
        for at, mode in enumerate(modes):
            for signed in False, True:
                id = f"{mode.__name__} {number}"
                source = device.source if signed else f"/halls/{number % 4}"
                data = bytes([number % 256, 0, 255]) if number % 3 == 0 else {"number": number, "text": "grüße \U0001f980"}
                event, payload = cloud_event(device, source, id, "example.measured.v1", data, now(), signed)
                send(mode(event))
                topic.ledger.event(source, id, payload, signed)
                if number % 10 == 0:
                    send(modes[1 - at](event), topic.copy)
    send_wrong_cloud_events(topic, device, modes)


def send_wrong_cloud_events(topic, device, modes):
    """Each kind of rejection, in both modes."""
    stranger = Device(device.source, Ed25519PrivateKey.generate())
    for mode in modes:

        def letter(reason, change, days=0, device=device, signed=True):
            id, time = f"{reason} {mode.__name__}", now() + timedelta(days=days)
            event, _ = cloud_event(device, device.source, id, "wrong", {"a": 1}, time, signed)
            change(event.get_attributes())
            message = mode(event)
            topic.letter(reason, message.value, message.key, list(message.headers.items()))

        letter("wrong-signature", lambda attributes: attributes.update(type="changed"))
        letter("unknown-key", lambda _: None, device=stranger)
        letter("stale", lambda _: None, days=-2)
        letter("future", lambda _: None, days=2, signed=False)
        letter("tenant", lambda attributes: attributes.update(killicktenant="others"))
        letter("malformed", lambda attributes: attributes.pop("type"), signed=False)
        letter("malformed", lambda attributes: attributes.update(specversion="0.3"), signed=False)
        letter("malformed", lambda attributes: attributes.update(killickkey="AAAA"))
    structured = [("content-type", b"application/cloudevents+json")]
    twice = b'{"specversion": "1.0", "id": "1", "id": "2", "source": "s", "type": "t"}'
    for value in twice, b"{", b"", None:
        topic.letter("malformed", value, None, structured)
    topic.letter("malformed", b"[]", None, [("content-type", b"application/cloudevents-batch+json")])


def send_machines(topic, events):
    """Avro of another schema in Confluent's framing."""
    schema = fastavro.parse_schema(json.loads((HERE / "reading.avsc").read_text()))
    for number in range(events):
        out = io.BytesIO(b"\0" + SCHEMA_ID.to_bytes(4, "big"))
        out.seek(5)
        name = f"mill/{number % 4}"
        datum = {"machine": {"name": name, "hall": "SOUTH"}, "number": number, "at": now(), "celsius": number / 7,
                 "tags": {"shift": "late"}, "raw": list(range(number % 9))}
        fastavro.schemaless_writer(out, schema, datum)
        value = out.getvalue()
        topic.send(value, name)
        topic.ledger.event(name, str(number), value)
        if number % 10 == 0:
            topic.copy(value, name)
    for wrong in value[:-1], value + b"\0", value[1:], b"\0\0\0\0", value[:5], None:
        topic.letter("malformed", wrong, "poison", [("from", b"fastavro")])


def send_envelopes(topic, events, device):
    """Our own envelope, by others' Avro."""
    schema = fastavro.parse_schema(json.loads((HERE / "../../schemas/avro/event.avsc").read_text()))

    def encode(id, payload, signed=True, tenant="plant"):
        time = now()
        datum = {"tenant": tenant, "source": device.source, "id": id, "time": time, "type": "example.cut", "payload": payload}
        if signed:
            datum |= {"key": device.public, "signature": device.sign(tenant, id, time, "example.cut", payload)}
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, datum)
        return out.getvalue()

    for number in range(events):
        payload = bytes(number % 200)
        value = encode(f"envelope {number}", payload)
        topic.send(value, device.source)
        topic.ledger.event(device.source, f"envelope {number}", payload, signed=True)
        if number % 10 == 0:
            topic.copy(value, device.source)
    topic.letter("unsigned", encode("unsigned", b"x", signed=False), "poison")
    topic.letter("unknown-key", encode("of another", b"x", tenant="others"), "poison")
    for wrong in value[:-1], value + b"\0", b"", b"\xff" * 40:
        topic.letter("malformed", wrong, "poison")


def send(events, folder, brokers, run):
    ledger = Ledger(folder / "ledger-python.ndjson")
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 20, "compression.type": "zstd"})

    def topic(name):
        return Topic(producer, run, name, ledger)

    device = Device.load(folder / "lathe.key")
    send_readings(topic("readings"), events, folder)
    send_cloud_events(topic("cloud"), events, device)
    send_machines(topic("machines"), events)
    send_envelopes(topic("events"), events, device)
    left = producer.flush(30)
    ledger.close()
    if left:
        sys.exit(f"{left} records were not delivered in 30 s")


def main():
    what, events, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if what == "lines":
        lines(events, folder)
    else:
        send(events, folder, *sys.argv[4:])


main()
