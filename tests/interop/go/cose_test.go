package interop

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/transparency-dev/merkle/proof"
	"github.com/veraison/go-cose"
)

// Header parameters of RFC 9942 and RFC 9597.
const (
	structure, proofs, inclusion = 395, 396, -1
	claims, issuer               = 15, 1
)

// inclusionProof is the proof in a receipt.
type inclusionProof struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64
	Index uint64
	Path  [][]byte
}

func TestCose(t *testing.T) {
	all, keys := load(t), verifiers(t)
	tally := newTally(t, "github.com/veraison/go-cose, with github.com/transparency-dev/merkle")
	alone := 0
	for seed, batch := range all.batches {
		if batch.checkpoint.size == 1 {
			alone++ // Its path has no hash, and RFC 9942 wants one.
			continue
		}
		origin, number := batch.log.origin, batch.fields.Number
		name := fmt.Sprintf("batches/%s-%d", strings.ReplaceAll(origin, "/", "_"), number)
		signed, entry := read(t, folder(t, name+".cose")), read(t, folder(t, name+".header"))
		if string(entry) != string(batch.header) {
			t.Errorf("%s has another header", name)
		}
		_, key, _ := strings.Cut(strings.TrimPrefix(keys[origin], origin+"+"), "+")
		public, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := cose.NewVerifier(cose.AlgorithmEdDSA, ed25519.PublicKey(public[1:]))
		if err != nil {
			t.Fatal(err)
		}
		message, included := openReceipt(t, signed)
		check := func(message cose.Sign1Message, included inclusionProof, entry []byte) error {
			return checkReceipt(message, included, entry, verifier, batch)
		}
		tally.accepts(check(message, included, entry), "%s", name)

		tally.refuses(check(message, included, flipped(entry, seed)), "another entry for %s", name)
		changed := included
		changed.Path = flippedIn(included.Path, seed)
		tally.refuses(check(message, changed, entry), "another path in %s", name)
		changed = included
		changed.Size++
		tally.refuses(check(message, changed, entry), "another size in %s", name)
		changed = included
		changed.Index ^= 1
		tally.refuses(check(message, changed, entry), "another index in %s", name)
		forged := message
		forged.Signature = flipped(message.Signature, seed)
		tally.refuses(check(forged, included, entry), "another signature in %s", name)
		forged = message
		forged.Headers.RawProtected = otherIssuer(t, message)
		tally.refuses(check(forged, included, entry), "another issuer in %s", name)
	}
	if tally.accepted != len(all.batches)-alone || len(files(t, "batches", ".cose")) != tally.accepted {
		t.Errorf("%d receipts of %d batches, of which %d can have none", tally.accepted, len(all.batches), alone)
	}
}

// openReceipt takes a receipt apart.
func openReceipt(t *testing.T, signed []byte) (cose.Sign1Message, inclusionProof) {
	t.Helper()
	var message cose.Sign1Message
	if err := message.UnmarshalCBOR(signed); err != nil {
		t.Fatal(err)
	}
	if message.Payload != nil {
		t.Fatal("the payload is not detached")
	}
	list := message.Headers.Unprotected[int64(proofs)].(map[any]any)[int64(inclusion)].([]any)
	var included inclusionProof
	if err := cbor.Unmarshal(list[0].([]byte), &included); err != nil || len(list) != 1 {
		t.Fatalf("%d proofs: %v", len(list), err)
	}
	return message, included
}

// checkReceipt computes the root from entry and path, and checks that the log signed it, its origin and its size.
func checkReceipt(message cose.Sign1Message, included inclusionProof, entry []byte, key cose.Verifier, of *batch) error {
	leaf := hasher.HashLeaf(entry)
	root, err := proof.RootFromInclusionProof(hasher, included.Index, included.Size, leaf, included.Path)
	if err != nil {
		return err
	}
	message.Payload = root
	if err := message.Verify(nil, key); err != nil {
		return err
	}
	protected := message.Headers.Protected
	if protected[int64(structure)] != int64(1) {
		return errors.New("not a tree of RFC 9162 with SHA-256")
	}
	id := binary.BigEndian.AppendUint32(nil, of.log.verifier.KeyHash())
	if string(protected[cose.HeaderLabelKeyID].([]byte)) != string(id) {
		return errors.New("another key id")
	}
	said := protected[int64(claims)].(map[any]any)
	if said[int64(issuer)] != of.log.origin || said["tree-size"] != int64(included.Size) {
		return fmt.Errorf("the log signed %v", said)
	}
	return nil
}

// otherIssuer is the protected header with one bit of the origin turned over.
func otherIssuer(t *testing.T, message cose.Sign1Message) cbor.RawMessage {
	t.Helper()
	raw := append(cbor.RawMessage(nil), message.Headers.RawProtected...)
	at := strings.Index(string(raw), "interop.example")
	if at < 0 {
		t.Fatal("no issuer")
	}
	raw[at] ^= 1
	return raw
}
