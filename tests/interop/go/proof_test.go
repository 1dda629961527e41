package interop

import (
	"errors"
	"testing"

	"github.com/fxamacker/cbor/v2"
	formats "github.com/transparency-dev/formats/log"
	tlogproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"golang.org/x/mod/sumdb/note"
)

// extra is what leads from an event to the batch header, which the proof itself is about.
type extra struct {
	_         struct{} `cbor:",toarray"`
	Format    string
	Statement []byte
	Header    []byte
	Index     uint64
	Path      [][]byte
}

func TestTlogProof(t *testing.T) {
	all := load(t)
	logs := map[string]note.Verifier{}
	for _, log := range all.logs {
		logs[log.origin] = log.verifier
	}
	tally := newTally(t, "github.com/transparency-dev/formats, tlog-proof")
	for seed, path := range files(t, "proofs", ".tlog-proof") {
		var event tlogproof.TLogProof
		if err := event.Unmarshal(read(t, path)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var first extra
		if err := cbor.Unmarshal(event.ExtraData, &first); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		tally.accepts(checkProof(event, first, logs), "%s", path)

		// One bit, in each part in turn.
		other := first
		other.Statement = flipped(first.Statement, seed)
		tally.refuses(checkProof(event, other, logs), "another statement in %s", path)
		other = first
		other.Header = flipped(first.Header, seed)
		tally.refuses(checkProof(event, other, logs), "another header in %s", path)
		if len(first.Path) > 0 {
			other = first
			other.Path = flippedIn(first.Path, seed)
			tally.refuses(checkProof(event, other, logs), "another path in the batch in %s", path)
		}
		if len(event.Hashes) > 0 {
			changed := event
			changed.Hashes = append([][32]byte(nil), event.Hashes...)
			changed.Hashes[seed%len(event.Hashes)][seed%32] ^= 1
			tally.refuses(checkProof(changed, first, logs), "another path in the log in %s", path)
		}
		changed := event
		changed.Index ^= 1
		tally.refuses(checkProof(changed, first, logs), "another index in %s", path)
		changed = event
		changed.Checkpoint = withOtherLine(event.Checkpoint, 2, seed)
		tally.refuses(checkProof(changed, first, logs), "another root in %s", path)
		changed = event
		changed.Checkpoint = withOtherSignature(t, event.Checkpoint, seed)
		tally.refuses(checkProof(changed, first, logs), "another signature in %s", path)
	}
	if wanted := len(files(t, "receipts", ".json")); tally.accepted != wanted {
		t.Errorf("%d proofs of %d events", tally.accepted, wanted)
	}
}

// checkProof checks both steps: what every C2SP tool does with the header, and the way from the statement to it.
func checkProof(event tlogproof.TLogProof, first extra, logs map[string]note.Verifier) error {
	var fields header
	if err := cbor.Unmarshal(first.Header, &fields); err != nil {
		return err
	}
	if logs[fields.Origin] == nil {
		return errors.New("a log that nobody knows")
	}
	checkpoint, _, _, err := formats.ParseCheckpoint(event.Checkpoint, fields.Origin, logs[fields.Origin])
	if err != nil {
		return err
	}
	var path [][]byte
	for _, hash := range event.Hashes {
		path = append(path, hash[:])
	}
	leaf := hasher.HashLeaf(first.Header)
	if err := proof.VerifyInclusion(hasher, event.Index, checkpoint.Size, leaf, path, checkpoint.Hash); err != nil {
		return err
	}
	// The header is in the log. The statement is in the batch of the header.
	leaf = hasher.HashLeaf(first.Statement)
	return proof.VerifyInclusion(hasher, first.Index, fields.LeafCount, leaf, first.Path, fields.Root)
}
