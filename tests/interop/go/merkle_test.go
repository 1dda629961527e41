package interop

import (
	"bytes"
	"errors"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

var hasher = rfc6962.DefaultHasher

// nodes keeps the roots of all complete subtrees over these leaves, and gives the root of them all.
func nodes(t *testing.T, leaves [][]byte) (map[compact.NodeID][]byte, []byte) {
	t.Helper()
	kept := map[compact.NodeID][]byte{}
	keep := func(id compact.NodeID, hash []byte) { kept[id] = hash }
	tree := (&compact.RangeFactory{Hash: hasher.HashChildren}).NewEmptyRange(0)
	for _, leaf := range leaves {
		if err := tree.Append(hasher.HashLeaf(leaf), keep); err != nil {
			t.Fatal(err)
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		t.Fatal(err)
	}
	return kept, root
}

func TestMerkle(t *testing.T) {
	all := load(t)
	tally := newTally(t, "github.com/transparency-dev/merkle")
	for _, batch := range all.batches {
		_, root := nodes(t, batch.statements)
		tally.accepts(same(root, batch.fields.Root), "root of batch %d", batch.fields.Number)
		for index, statement := range batch.statements {
			verify(tally, batch.paths[index], batch.fields.LeafCount, batch.fields.Root, uint64(index), statement)
		}
		checkpoint := batch.checkpoint
		verify(tally, batch.logPath, uint64(checkpoint.size), checkpoint.root, batch.fields.Number, batch.header)
	}
	for _, log := range all.logs {
		for i, later := range log.checkpoints {
			kept, root := nodes(t, log.headers[:later.size])
			tally.accepts(same(root, later.root), "root of %s at size %d", log.origin, later.size)
			for _, earlier := range log.checkpoints[:i] {
				verifyConsistency(t, tally, kept, earlier, later)
			}
		}
	}
}

func same(found, wanted []byte) error {
	if !bytes.Equal(found, wanted) {
		return errors.New("another root")
	}
	return nil
}

// verify checks a leaf's path, and the same with one bit flipped in leaf, path and root, and with a hash too many.
func verify(tally *tally, path [][]byte, size uint64, root []byte, index uint64, leaf []byte) {
	seed := int(index)
	check := func(path [][]byte, root, leaf []byte) error {
		return proof.VerifyInclusion(hasher, index, size, hasher.HashLeaf(leaf), path, root)
	}
	tally.accepts(check(path, root, leaf), "leaf %d of %d", index, size)
	tally.refuses(check(path, root, flipped(leaf, seed)), "another leaf %d of %d", index, size)
	tally.refuses(check(path, flipped(root, seed), leaf), "leaf %d of %d in another root", index, size)
	tally.refuses(check(append(path[:len(path):len(path)], root), root, leaf), "a longer path of leaf %d of %d", index, size)
	if len(path) > 0 {
		tally.refuses(check(flippedIn(path, seed), root, leaf), "another path of leaf %d of %d", index, size)
	}
}

// verifyConsistency proves by the library's own proof that one checkpoint continues the other.
func verifyConsistency(t *testing.T, tally *tally, kept map[compact.NodeID][]byte, earlier, later checkpoint) {
	t.Helper()
	old, new := uint64(earlier.size), uint64(later.size)
	needed, err := proof.Consistency(old, new)
	if err != nil {
		t.Fatal(err)
	}
	path := make([][]byte, len(needed.IDs))
	for i, id := range needed.IDs {
		path[i] = kept[id]
	}
	path, err = needed.Rehash(path, hasher.HashChildren)
	if err != nil {
		t.Fatal(err)
	}
	check := func(path [][]byte, oldRoot, newRoot []byte) error {
		return proof.VerifyConsistency(hasher, old, new, path, oldRoot, newRoot)
	}
	seed := int(old)
	tally.accepts(check(path, earlier.root, later.root), "from size %d to %d", old, new)
	tally.refuses(check(path, flipped(earlier.root, seed), later.root), "another root at size %d", old)
	tally.refuses(check(path, earlier.root, flipped(later.root, seed)), "another root at size %d", new)
	if len(path) > 0 {
		tally.refuses(check(flippedIn(path, seed), earlier.root, later.root), "another proof from size %d to %d", old, new)
	}
}
