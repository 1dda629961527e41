"""Subscribes to proofs, receipts and dead letters as other people's programs do: confluent-kafka, fastavro, the CloudEvents SDK.

    consume.py EVENTS LETTERS FOLDER BROKERS RUN [REGISTRY]

Ends when all events and letters have come, and nothing comes behind them. Writes each message of `proofs` to
FOLDER/proofs/N.avro, the receipt out of each message of `receipts` to FOLDER/published/N.json, and dead letters to
FOLDER/letters.ndjson. With a registry its own client has to read the same.
"""

import io
import json
import re
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import fastavro
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from confluent_kafka import Consumer
from confluent_kafka.serialization import MessageField, SerializationContext

from ledger import text

SCHEMAS = Path(__file__).parent / "../../schemas/avro"
# How long all may take, and how long it has to be silent behind the last, in seconds.
LONGEST = 120
SILENCE = 1.5
TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01")


def schema(name):
    return fastavro.parse_schema(json.loads((SCHEMAS / name).read_text()))


def deserializer(url):
    """Reads by the schema that the registry has for the value's id."""
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer

    return AvroDeserializer(SchemaRegistryClient({"url": url}))


class Subscriber:
    def __init__(self, folder, registry=None):
        self.folder, self.ids, self.number = folder, set(), 0
        self.seen = {"proofs": 0, "receipts": 0, "rejected": 0}
        self.schemas = {"proofs": schema("proof-ready.avsc"), "receipts": schema("receipt.avsc")}
        for name in "proofs", "published":
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.deserialize = registry and deserializer(registry)
        self.letters = open(folder / "letters.ndjson", "w", encoding="utf-8")

    def take(self, message):
        name = message.topic().rpartition(".")[2]
        self.number += 1
        self.seen[name] += getattr(self, name)(message)

    def read(self, name, message):
        """The datum behind the framing, and the attributes around it."""
        headers = dict(message.headers())
        event = from_kafka_event(KafkaMessage(headers=headers, key=message.key(), value=message.value()))
        value = message.value()
        assert value[0] == 0 and len(value) > 5
        datum = fastavro.schemaless_reader(stream := io.BytesIO(value[5:]), self.schemas[name])
        assert not stream.read(), "bytes follow the datum"
        if self.deserialize:
            context = SerializationContext(message.topic(), MessageField.VALUE)
            assert self.deserialize(value, context) == datum
        assert event.get_datacontenttype() == "application/avro"
        assert event.get_time() == datum["block"]["time"], (event.get_time(), datum["block"])
        assert TRACE.fullmatch(headers["traceparent"].decode())
        assert event.get_id() not in self.ids, f"the CloudEvent {event.get_id()} came twice"
        self.ids.add(event.get_id())
        return event, datum

    def proofs(self, message):
        event, datum = self.read("proofs", message)
        assert event.get_type() == "killick.proof.ready.v1"
        assert event.get_source() == f"killick:{datum['origin']}"
        assert event.get_id() == event.get_extension("partitionkey") == datum["batch"]
        assert event.get_subject() == str(datum["number"])
        assert datum["leaves"] == len(datum["statements"]) and datum["tenants"] == ["plant"]
        (self.folder / f"proofs/{self.number}.avro").write_bytes(message.value())
        return datum["leaves"]

    def receipts(self, message):
        event, datum = self.read("receipts", message)
        assert event.get_type() == "killick.receipt.ready.v1"
        assert event.get_id() == f"{datum['batch']}/{datum['index']}"
        assert event.get_subject() == event.get_extension("partitionkey")
        names = [unquote(name) for name in event.get_subject().split("/")]
        assert names == [datum["tenant"], datum["source"], datum["id"]]
        (self.folder / f"published/{self.number}.json").write_text(datum["receipt"], encoding="utf-8")
        return 1

    def rejected(self, message):
        headers = [[name, text(value)] for name, value in message.headers() or []]
        letter = {"value": text(message.value()), "key": text(message.key()), "headers": headers}
        self.letters.write(json.dumps(letter) + "\n")
        return 1


def main():
    events, letters, folder, brokers, run = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:6]
    subscriber = Subscriber(folder, *sys.argv[6:])
    consumer = Consumer({
        "bootstrap.servers": brokers, "group.id": f"{run}.confluent", "isolation.level": "read_committed",
        "auto.offset.reset": "earliest", "enable.auto.commit": False,
    })
    wanted = {"proofs": events, "receipts": events, "rejected": letters}
    consumer.subscribe([f"{run}.killick.{name}" for name in wanted])
    begun = last = time.monotonic()
    while time.monotonic() - begun < LONGEST:
        message = consumer.poll(0.1)
        if message is None:
            is_all = all(subscriber.seen[name] >= count for name, count in wanted.items())
            if is_all and time.monotonic() - last > SILENCE:
                break
        elif message.error():
            sys.exit(str(message.error()))
        else:
            subscriber.take(message)
            last = time.monotonic()
    consumer.close()
    subscriber.letters.close()
    if subscriber.seen != wanted:
        sys.exit(f"consume.py: {subscriber.seen} came, not {wanted}")


main()
