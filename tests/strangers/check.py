"""Holds what came out against what was sent; every failure ends it with a message.

    check.py counts LEDGER…                     prints how many events and how many dead letters there have to be
    check.py receipts FOLDER LEDGER…            FOLDER/NAME.json are the receipts of all events, one each; writes what each
                                                is the receipt of to FOLDER.payloads/NAME
    check.py verified FOLDER OUTPUT LEDGER…     OUTPUT is what `killick verify --output json` said of them
    check.py letters FILE RUN LEDGER…           FILE are the dead letters as consume.py writes them
"""

import base64
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import cbor2

import ledger

PREFIX = "__connect.errors."


def events(lines):
    """The events that have to have receipts, by their names."""
    found = {}
    for line in lines:
        if "event" in line:
            name = tuple(line["event"])
            assert name not in found, f"the ledger has {name} twice"
            found[name] = line
    return found


def statement(path):
    """The statement of a receipt, by somebody else's CBOR."""
    receipt = json.loads(path.read_text(encoding="utf-8"))
    fields = cbor2.loads(base64.urlsafe_b64decode(receipt["statement"] + "=="))
    names = ["version", "tenant", "source", "id", "time", "type", "digest", "key", "signature", "salt"]
    return dict(zip(names, fields, strict=True))


def name_of(fields):
    return tuple(fields[name] for name in ("tenant", "source", "id"))


def counts(lines):
    lines = list(lines)
    letters = sum("reason" in line or "conflict" in line for line in lines)
    copies = sum("copy" in line for line in lines)
    print(len(events(lines)), letters, copies)


def receipts(folder, lines):
    expected = events(lines)
    payloads = folder.with_name(folder.name + ".payloads")
    payloads.mkdir()
    found = Counter()
    for path in folder.glob("*.json"):
        name = name_of(statement(path))
        found[name] += 1
        if name in expected:
            (payloads / path.stem).write_bytes(ledger.data(expected[name]["payload"]))
    differs("receipts", Counter(dict.fromkeys(expected, 1)), found)


def verified(folder, output, lines):
    expected = events(lines)
    reports = [json.loads(line) for line in open(output, encoding="utf-8")]
    for report in reports:
        line = expected[name_of(statement(Path(report["file"])))]
        said = report["level"], report["payload"], report["device"]
        wanted = "trusted", "matches", "valid" if line["signed"] else "unsigned"
        assert said == wanted, f"{report['file']}: {said}, not {wanted}"
    differs("files", Counter(map(str, folder.glob("*.json"))), Counter(report["file"] for report in reports))


def letters(path, run, lines):
    wanted, found, places, sent = Counter(), Counter(), set(), {}
    for line in lines:
        if "reason" in line:
            headers = tuple(map(tuple, line["headers"]))
            letter = line["reason"], line["topic"], line["value"] or "", line["key"] or "", headers
            wanted[letter] += 1
            if "place" in line:
                sent.setdefault(letter, set()).add(tuple(line["place"]))
        elif "conflict" in line:
            wanted["conflict", line["topic"], *line["conflict"], hashlib.sha256(ledger.data(line["payload"])).digest()] += 1
    for letter in map(json.loads, open(path, encoding="utf-8")):
        place, seen = look(letter, run)
        assert place not in places, f"{place} is a dead letter twice"
        assert seen not in sent or place in sent[seen], f"{place} never was sent to: {seen}"
        places.add(place)
        found[seen] += 1
    differs("dead letters", wanted, found)


def look(letter, run):
    """A dead letter: where it stood, and what it is."""
    names = [name for name, _ in letter["headers"]]
    ours = next(at for at, name in enumerate(names) if name.startswith((PREFIX, "killick-")))
    said = {name: ledger.data(value).decode() for name, value in letter["headers"][ours:]}
    assert len(said) == len(names) - ours, f"a header of ours is there twice: {names}"
    error = {name.removeprefix(PREFIX): value for name, value in said.items() if name.startswith(PREFIX)}
    assert error["connector.name"] == "killick" and error["exception.message"], error
    topic = error["topic"].removeprefix(f"{run}.")
    place, reason = (topic, int(error["partition"]), int(error["offset"])), error["exception.class.name"]
    if reason == "conflict":
        assert error["stage"] == "dedup" and ours == 0 and not letter["key"], error
        fields = cbor2.loads(ledger.data(letter["value"]))
        return place, (reason, topic, *fields[1:4], fields[6])
    assert error["stage"] == "ingest" and int(said["killick-append-time"]) > 0, said
    headers = tuple((name, value or "") for name, value in letter["headers"][:ours])
    return place, (reason, topic, letter["value"] or "", letter["key"] or "", headers)


def differs(what, wanted, found):
    """Ends if they do, with the first of what is missing and of what is too much."""
    if wanted != found:
        missing, surplus = wanted - found, found - wanted
        sys.exit(f"{what}: {missing.total()} are missing and {surplus.total()} too many:\n"
                 + "\n".join(f"  {sign} {entry}" for sign, side in (("-", missing), ("+", surplus)) for entry in list(side)[:5]))


def main():
    command, *rest = sys.argv[1:]
    if command == "counts":
        counts(ledger.read(rest))
    elif command == "receipts":
        receipts(Path(rest[0]), ledger.read(rest[1:]))
    elif command == "verified":
        verified(Path(rest[0]), rest[1], ledger.read(rest[2:]))
    elif command == "letters":
        letters(rest[0], rest[1], ledger.read(rest[2:]))
    else:
        sys.exit(__doc__)


main()
