"""What was sent, and what has to become of it: a line of JSON for each record, for `check.py`; and how it is sent.

An event that is new has `event` (tenant, source, id), `payload` and `signed`. What has to end as a dead letter has `reason`,
and what was sent, and `place` (topic, partition, offset) if its producer knows it. A changed copy has `conflict` (tenant,
source, id) and `payload`. Nothing comes of a `copy`.
"""

import base64
import json
import sys
from datetime import datetime, timezone


def text(data):
    """Bytes for JSON; none is none."""
    return None if data is None else base64.b64encode(data).decode()


def data(value):
    """The bytes again."""
    return None if value is None else base64.b64decode(value)


def now():
    """The time, to the millisecond, which every format can carry."""
    time = datetime.now(timezone.utc)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def rfc3339(time):
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Ledger:
    """Writes the lines of one program."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")

    def event(self, source, id, payload, signed=False, tenant="plant"):
        self.line(event=[tenant, source, id], payload=text(payload), signed=signed)

    def copy(self):
        self.line(copy=True)

    def letter(self, reason, topic, value, key=None, headers=(), place=None):
        headers = [[name, text(content)] for name, content in headers]
        fields = {"place": place} if place else {}
        self.line(reason=reason, topic=topic, value=text(value), key=text(key), headers=headers, **fields)

    def line(self, **fields):
        self.file.write(json.dumps(fields) + "\n")

    def close(self):
        self.file.close()


class Topic:
    """A topic that is written; an error of delivery ends the program."""

    def __init__(self, producer, run, name, ledger):
        self.producer, self.run, self.name, self.ledger = producer, run, name, ledger

    def send(self, value, key=None, headers=(), then=lambda place: None):
        def delivered(error, message):
            if error is not None:
                sys.exit(f"{self.name}: {error}")
            then((self.name, message.partition(), message.offset()))

        while True:
            try:
                self.producer.produce(f"{self.run}.{self.name}", value, key=key, headers=list(headers), on_delivery=delivered)
                break
            except BufferError:
                self.producer.poll(0.1)
        self.producer.poll(0)

    def letter(self, reason, value, key=None, headers=()):
        """Sends what has to end as a dead letter."""
        key, headers = key.encode() if isinstance(key, str) else key, list(headers)
        self.send(value, key, headers, lambda place: self.ledger.letter(reason, self.name, value, key, headers, place))

    def copy(self, value, key=None, headers=()):
        self.send(value, key, headers)
        self.ledger.copy()


def read(paths):
    """The lines of all programs."""
    for path in paths:
        with open(path, encoding="utf-8") as file:
            yield from map(json.loads, file)
