"""Makes receipts of messages of `proofs` with nothing of ours but their schema: fastavro, SHA-256 and RFC 9162.

    derive.py OUT MESSAGE…     each MESSAGE is a file with the value of one; writes OUT/BATCH-INDEX.json for each event
    derive.py OUT MESSAGE… --flip    the same with one bit flipped, in statement, path, root and signature in turn: four
                                     receipts OUT/BATCH-INDEX-PART.json of each event, none of which is right
"""

import base64
import hashlib
import io
import json
import sys
from pathlib import Path

import cbor2
import fastavro

SCHEMA = Path(__file__).parent / "../../schemas/avro/proof-ready.avsc"


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def tree(leaves, ranges):
    """The root of these leaf hashes (section 2.1.1); the roots of all subtrees stay in `ranges` by their (start, end)."""

    def root(start, end):
        if end - start == 1:
            ranges[start, end] = leaves[start]
        else:
            middle = split(start, end)
            ranges[start, end] = hashlib.sha256(b"\x01" + root(start, middle) + root(middle, end)).digest()
        return ranges[start, end]

    return root(0, len(leaves))


def split(start, end):
    """Where a tree of these leaves parts: behind the largest power of two of them that is not all."""
    return start + (1 << (end - start - 1).bit_length() - 1)


def audit_path(index, size, ranges):
    """Section 2.1.3.1: the roots beside the way from the root down to the leaf, the nearest first."""
    start, end, path = 0, size, []
    while end - start > 1:
        middle = split(start, end)
        if index < middle:
            path.append(ranges[middle, end])
            end = middle
        else:
            path.append(ranges[start, middle])
            start = middle
    return [b64url(hash) for hash in reversed(path)]


def receipts(message):
    statements, ranges = message["statements"], {}
    tree([hashlib.sha256(b"\0" + statement).digest() for statement in statements], ranges)
    for index, statement in enumerate(statements):
        path = audit_path(index, len(statements), ranges)
        yield {
            "format": "killick-receipt/1",
            "statement": b64url(statement),
            "batch": {"header": b64url(message["header"]), "index": index, "path": path},
            "log": {
                "checkpoint": message["checkpoint"],
                "index": message["number"],
                "path": [b64url(hash) for hash in message["path"]],
            },
            "anchors": [json.loads(anchor) for anchor in message["anchors"]],
        }


def flipped(encoded, at):
    """Bytes in base64url, with one bit flipped."""
    data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    return b64url(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])


def changed(receipt, root):
    """The receipt four times, each with one bit flipped."""
    batch, log = receipt["batch"], receipt["log"]
    yield "statement", {**receipt, "statement": flipped(receipt["statement"], 50)}
    # The only leaf of a tree has no path: then a hash too many is what there is to refuse.
    path = [flipped(batch["path"][0], 7), *batch["path"][1:]] if batch["path"] else [b64url(bytes(32))]
    yield "path", {**receipt, "batch": {**batch, "path": path}}
    header = base64.urlsafe_b64decode(batch["header"] + "=" * (-len(batch["header"]) % 4))
    yield "root", {**receipt, "batch": {**batch, "header": flipped(batch["header"], header.index(root) + 7)}}
    start, _, signature = log["checkpoint"].rpartition(" ")
    signature = bytearray(base64.b64decode(signature))
    signature[40] ^= 1
    checkpoint = f"{start} {base64.b64encode(signature).decode()}\n"
    yield "signature", {**receipt, "log": {**log, "checkpoint": checkpoint}}


def main():
    out, files = Path(sys.argv[1]), [name for name in sys.argv[2:] if name != "--flip"]
    is_right = len(files) == len(sys.argv) - 2
    schema = fastavro.parse_schema(json.loads(SCHEMA.read_text()))
    out.mkdir()
    for file in files:
        message = fastavro.schemaless_reader(io.BytesIO(Path(file).read_bytes()[5:]), schema)
        for index, receipt in enumerate(receipts(message)):
            root = cbor2.loads(message["header"])[9]
            for part, said in [("", receipt)] if is_right else changed(receipt, root):
                name = "-".join(filter(None, [message["batch"], str(index), part]))
                (out / f"{name}.json").write_text(json.dumps(said), encoding="utf-8")


main()
