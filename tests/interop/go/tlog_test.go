package interop

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// stored are the hashes of a tree as tlog keeps them.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(s)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		found[i] = s[index]
	}
	return found, nil
}

// store builds the tree over these leaves.
func store(t *testing.T, leaves [][]byte) stored {
	t.Helper()
	var tree stored
	for number, leaf := range leaves {
		more, err := tlog.StoredHashes(int64(number), leaf, tree)
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, more...)
	}
	return tree
}

func recordProof(path [][]byte) tlog.RecordProof {
	proof := make(tlog.RecordProof, len(path))
	for i, hash := range path {
		proof[i] = tlog.Hash(hash)
	}
	return proof
}

// hasRoot checks that the tree of the first leaves has this root.
func hasRoot(size int64, tree stored, root []byte) error {
	hash, err := tlog.TreeHash(size, tree)
	if err == nil && hash != tlog.Hash(root) {
		err = errors.New("another root")
	}
	return err
}

func TestTlog(t *testing.T) {
	all := load(t)
	tally := newTally(t, "golang.org/x/mod/sumdb/tlog")
	for _, batch := range all.batches {
		count := int64(batch.fields.LeafCount)
		tree := store(t, batch.statements)
		tally.accepts(hasRoot(count, tree, batch.fields.Root), "root of batch %d", batch.fields.Number)
		changed := store(t, append([][]byte{flipped(batch.statements[0], 0)}, batch.statements[1:]...))
		tally.refuses(hasRoot(count, changed, batch.fields.Root), "root of a batch with another statement")
		for index, statement := range batch.statements {
			checkRecord(tally, batch.paths[index], count, batch.fields.Root, int64(index), statement)
		}
		checkpoint := batch.checkpoint
		checkRecord(tally, batch.logPath, checkpoint.size, checkpoint.root, int64(batch.fields.Number), batch.header)
	}
	for _, log := range all.logs {
		tree := store(t, log.headers)
		for i, later := range log.checkpoints {
			tally.accepts(hasRoot(later.size, tree, later.root), "root of %s at size %d", log.origin, later.size)
			tally.refuses(hasRoot(later.size, tree, flipped(later.root, i)), "another root of %s", log.origin)
			for _, earlier := range log.checkpoints[:i] {
				checkTree(t, tally, tree, earlier, later)
			}
		}
	}
}

// checkRecord checks a leaf's path, and the same with one bit flipped in leaf, path and root.
func checkRecord(tally *tally, path [][]byte, size int64, root []byte, index int64, leaf []byte) {
	seed := int(index)
	check := func(path [][]byte, root, leaf []byte) error {
		return tlog.CheckRecord(recordProof(path), size, tlog.Hash(root), index, tlog.RecordHash(leaf))
	}
	tally.accepts(check(path, root, leaf), "leaf %d of %d", index, size)
	tally.refuses(check(path, root, flipped(leaf, seed)), "another leaf %d of %d", index, size)
	tally.refuses(check(path, flipped(root, seed), leaf), "leaf %d of %d in another root", index, size)
	if len(path) > 0 {
		tally.refuses(check(flippedIn(path, seed), root, leaf), "another path of leaf %d of %d", index, size)
	}
}

// checkTree proves by tlog's own proof that one checkpoint continues the other.
func checkTree(t *testing.T, tally *tally, tree stored, earlier, later checkpoint) {
	t.Helper()
	proof, err := tlog.ProveTree(later.size, earlier.size, tree)
	if err != nil {
		t.Fatal(err)
	}
	check := func(proof tlog.TreeProof, new, old []byte) error {
		return tlog.CheckTree(proof, later.size, tlog.Hash(new), earlier.size, tlog.Hash(old))
	}
	seed := int(earlier.size)
	tally.accepts(check(proof, later.root, earlier.root), "from size %d to %d", earlier.size, later.size)
	tally.refuses(check(proof, flipped(later.root, seed), earlier.root), "another root at size %d", later.size)
	tally.refuses(check(proof, later.root, flipped(earlier.root, seed)), "another root at size %d", earlier.size)
	if len(proof) > 0 {
		changed := append(tlog.TreeProof(nil), proof...)
		changed[seed%len(proof)][seed%32] ^= 1
		tally.refuses(check(changed, later.root, earlier.root), "another proof from size %d to %d", earlier.size, later.size)
	}
}
