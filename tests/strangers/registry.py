"""A schema registry between us and programs that know only it: Confluent's client and serializer.

    registry.py ready URL                                whether it answers
    registry.py send EVENTS FOLDER BROKERS RUN URL       sends readings of two versions of a schema
"""

import json
import sys
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from ledger import Ledger, Topic, now

HERE = Path(__file__).parent


def ready(url):
    """Fails while the registry does not answer."""
    SchemaRegistryClient({"url": url}).get_subjects()


def send(events, folder, brokers, run, url):
    """The id stands before the value, or in a header; the second version has a field more."""
    registry = SchemaRegistryClient({"url": url})
    ledger = Ledger(folder / "ledger-registry.ndjson")
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    topic = Topic(producer, run, "registered", ledger)
    first = json.loads((HERE / "reading.avsc").read_text())
    second = {**first, "fields": [{"name": "operator", "type": "string", "default": ""}, *first["fields"]]}
    context = SerializationContext(f"{run}.registered", MessageField.VALUE)
    versions = [AvroSerializer(registry, json.dumps(version)) for version in (first, second)]
    for number in range(events):
        name = f"lift/{number % 3}"
        datum = {"operator": "nobody", "machine": {"name": name, "hall": "NORTH"}, "number": number, "at": now()}
        value = versions[number // 2 % 2](datum, context)
        headers = []
        if number % 2:
            headers, value = [("__value_schema_id", value[:5])], value[5:]
        topic.send(value, name, headers)
        ledger.event(name, str(number), value)
        if number % 10 == 0:
            topic.copy(value, name, headers)
    other = json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"})
    unfit = registry.register_schema(f"{run}.unfit", Schema(other, "JSON"))
    topic.letter("unfit-schema", b"\0" + unfit.to_bytes(4, "big") + b"\2a")
    topic.letter("unknown-schema", b"\0" + (1 << 30).to_bytes(4, "big") + b"\2a")
    topic.letter("malformed", value, "poison", [("__value_schema_id", b"\0\0")])
    left = producer.flush(30)
    ledger.close()
    if left:
        sys.exit(f"{left} records were not delivered in 30 s")


def main():
    if sys.argv[1] == "ready":
        ready(sys.argv[2])
    else:
        send(int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])


main()
