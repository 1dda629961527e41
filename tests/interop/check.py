"""Has Python programs of others check what Killick has made: trees and proofs by pymerkle, COSE Receipts by scitt-cose.

    check.py FOLDER

FOLDER is what tests/interop/run fills: trust.json, receipts/, batches/. Prints a line for each program; every failure ends it
with a message.
"""

import base64
import json
import sys
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pymerkle import InclusionProof, InmemoryTree, InvalidProof, verify_consistency, verify_inclusion
from scitt_cose import verify_receipt


class Tally:
    """Counts what a program accepts and refuses; ends where it should have done the other."""

    def __init__(self, program):
        self.program, self.accepted, self.refused = program, 0, 0

    def accepts(self, is_right, what):
        if not is_right:
            sys.exit(f"{self.program} refused {what}")
        self.accepted += 1

    def refuses(self, is_right, what):
        if is_right:
            sys.exit(f"{self.program} accepted {what}")
        self.refused += 1

    def end(self):
        if not (self.accepted and self.refused):
            sys.exit(f"{self.program} has checked nothing")
        print(f"  {self.program}: accepted {self.accepted}, refused {self.refused} of {self.refused}")


def flipped(data, seed):
    """A copy with one bit turned over: another one for each seed, and the same in every run."""
    changed = bytearray(data)
    bit = (seed * 2_654_435_761 + 97) % (8 * len(changed))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flipped_in(path, seed):
    at = seed % len(path)
    return [flipped(digest, seed) if index == at else digest for index, digest in enumerate(path)]


def data(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Batch:
    """A batch, and what its receipts say of it and of its log."""

    def __init__(self, receipt):
        self.header = data(receipt["batch"]["header"])
        fields = cbor2.loads(self.header)
        self.origin, self.number, self.count, self.root = fields[1], fields[2], fields[8], fields[9]
        self.log_path = [data(digest) for digest in receipt["log"]["path"]]
        _, size, root = receipt["log"]["checkpoint"].split("\n")[:3]
        self.size, self.log_root = int(size), base64.b64decode(root, validate=True)
        self.events = [None] * self.count


def batches(folder):
    """All batches, those of a log one after another."""
    found = {}
    for path in folder.glob("*.json"):
        receipt = json.loads(path.read_text())
        batch = found.setdefault(receipt["batch"]["header"], None) or Batch(receipt)
        found[receipt["batch"]["header"]] = batch
        digests = [data(digest) for digest in receipt["batch"]["path"]]
        batch.events[receipt["batch"]["index"]] = data(receipt["statement"]), digests
    ordered = sorted(found.values(), key=lambda batch: (batch.origin, batch.number))
    assert ordered and all(event for batch in ordered for event in batch.events), "receipts are missing"
    return ordered


def holds(verify, *args, **named):
    try:
        verify(*args, **named)
    except InvalidProof:
        return False
    return True


def check_leaf(tally, tree, leaf, index, size, root, path):
    """A leaf's path in our receipt, and the same with a bit flipped in leaf, path and root."""

    def check(leaf, path, root):
        digests = [tree.hash_buff(leaf), *path]
        # Which side each hash is on: pymerkle has that in its own proofs, and computes it again when it verifies.
        rule = tree.prove_inclusion(index + 1, size).rule
        proof = InclusionProof(algorithm="sha256", security=True, size=size, index=index + 1, rule=rule, path=digests)
        return holds(verify_inclusion, digests[0], root, proof, index=index + 1, size=size, algorithm="sha256")

    what = f"leaf {index} of {size}"
    tally.accepts(check(leaf, path, root), what)
    tally.refuses(check(flipped(leaf, index), path, root), f"another {what}")
    tally.refuses(check(leaf, path, flipped(root, index)), f"{what} in another root")
    if path:
        tally.refuses(check(leaf, flipped_in(path, index), root), f"another path of {what}")


def check_consistency(tally, tree, earlier, later):
    """Each checkpoint continues the one before, by pymerkle's own proof."""
    (old, old_root), (new, new_root) = earlier, later

    def check(old_root, new_root, path=None):
        proof = tree.prove_consistency(old, new)
        proof.path = path or proof.path
        return holds(verify_consistency, old_root, new_root, proof, prior_size=old, later_size=new, algorithm="sha256")

    tally.accepts(check(old_root, new_root), f"size {old} to {new}")
    tally.refuses(check(flipped(old_root, old), new_root), f"another root at size {old}")
    tally.refuses(check(old_root, flipped(new_root, new)), f"another root at size {new}")
    path = flipped_in(tree.prove_consistency(old, new).path, old)
    tally.refuses(check(old_root, new_root, path), f"another proof from size {old} to {new}")


def trees(everything):
    tally = Tally("pymerkle")
    for batch in everything:
        tree = InmemoryTree.init_from_entries([statement for statement, _ in batch.events], algorithm="sha256")
        tally.accepts(tree.get_root() == batch.root, f"the root of batch {batch.number} of {batch.origin}")
        for index, (statement, path) in enumerate(batch.events):
            check_leaf(tally, tree, statement, index, batch.count, batch.root, path)
    for origin in sorted({batch.origin for batch in everything}):
        log = [batch for batch in everything if batch.origin == origin]
        assert [batch.number for batch in log] == list(range(len(log))), f"a batch of {origin} is missing"
        tree = InmemoryTree.init_from_entries([batch.header for batch in log], algorithm="sha256")
        checkpoints = sorted({(batch.size, batch.log_root) for batch in log})
        for size, root in checkpoints:
            tally.accepts(tree.get_root(size) == root, f"the root of {origin} at size {size}")
        for batch in log:
            check_leaf(tally, tree, batch.header, batch.number, batch.size, batch.log_root, batch.log_path)
        for earlier, later in zip(checkpoints, checkpoints[1:]):
            check_consistency(tally, tree, earlier, later)
    tally.end()


def keys(folder):
    """The key of each log, in PEM."""
    found = {}
    for line in json.loads((folder / "trust.json").read_text())["logs"]:
        origin, _, key = line.split("+", 2)
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:])
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        found[origin] = public.public_bytes(*form)
    return found


def parts(receipt):
    """A COSE Receipt's protected header, its inclusion proof, and its signature."""
    protected, unprotected, _, signature = cbor2.loads(receipt).value
    return protected, cbor2.loads(unprotected[396][-1][0]), signature


def assembled(protected, proof, signature):
    proof = cbor2.dumps([proof[0], proof[1], list(proof[2])])
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {396: {-1: [proof]}}, None, signature]))


def receipts(everything, folder):
    tally, known, alone = Tally("scitt-cose"), keys(folder), 0
    for seed, batch in enumerate(everything):
        path = folder / "batches" / f"{batch.origin.replace('/', '_')}-{batch.number}.cose"
        if batch.size == 1:
            assert not path.exists(), f"{path}: a path needs a hash"
            alone += 1
            continue
        receipt, entry = path.read_bytes(), path.with_suffix(".header").read_bytes()
        assert entry == batch.header, path

        def check(receipt, entry=entry):
            result = verify_receipt(receipt, leaf_entry_hex=entry.hex(), log_public_key_pem=known[batch.origin])
            if not (result.ok and (result.issuer, result.root) == (batch.origin, batch.log_root.hex())):
                return False
            # A path proves its leaf in trees of other sizes, too, and the one of the proof is not signed: docs/interop.md has
            # whoever verifies hold it against the claim that is.
            protected, proof, _ = parts(receipt)
            return cbor2.loads(protected)[15]["tree-size"] == proof[0]

        tally.accepts(check(receipt), path)
        protected, proof, signature = parts(receipt)
        assert assembled(protected, proof, signature) == receipt, f"{path} is not deterministic"
        assert tuple(proof[:2]) == (batch.size, batch.number), path
        changed = proof[0] + 1, proof[1], proof[2]
        tally.refuses(check(assembled(protected, changed, signature)), f"another size in {path}")
        tally.refuses(check(receipt, flipped(entry, seed)), f"{path} of another entry")
        changed = proof[0], proof[1], flipped_in(proof[2], seed)
        tally.refuses(check(assembled(protected, changed, signature)), f"another path in {path}")
        changed = proof[0], proof[1] ^ 1, proof[2]
        tally.refuses(check(assembled(protected, changed, signature)), f"another index in {path}")
        tally.refuses(check(assembled(protected, proof, flipped(signature, seed))), f"another signature in {path}")
        at = protected.index(batch.origin.encode()) + 2
        changed = protected[:at] + bytes([protected[at] ^ 1]) + protected[at + 1:]
        tally.refuses(check(assembled(changed, proof, signature)), f"another issuer in {path}")
        tally.refuses(check(flipped(receipt, seed)), f"another bit of {path}")
    assert tally.accepted == len(everything) - alone, "batches without a receipt"
    tally.end()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    everything = batches(folder / "receipts")
    trees(everything)
    receipts(everything, folder)


main()
