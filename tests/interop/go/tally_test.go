package interop

import (
	"fmt"
	"slices"
	"testing"
)

// tally counts what a program of others accepts and refuses, and fails where it should have done the other.
type tally struct {
	t                         *testing.T
	accepted, refused, wanted int
}

// newTally prints, at the end of the test, one line for the program.
func newTally(t *testing.T, program string) *tally {
	t.Helper()
	tally := &tally{t: t}
	t.Cleanup(func() {
		fmt.Printf("  %s: accepted %d, refused %d of %d\n", program, tally.accepted, tally.refused, tally.wanted)
		if tally.accepted == 0 || tally.wanted == 0 {
			t.Error("nothing was checked")
		}
	})
	return tally
}

// accepts says that a check of something right has to pass.
func (tally *tally) accepts(err error, what string, args ...any) {
	tally.t.Helper()
	if err != nil {
		tally.t.Errorf("refused %s: %v", fmt.Sprintf(what, args...), err)
		return
	}
	tally.accepted++
}

// refuses says that a check of something changed must not pass.
func (tally *tally) refuses(err error, what string, args ...any) {
	tally.t.Helper()
	tally.wanted++
	if err == nil {
		tally.t.Errorf("accepted %s", fmt.Sprintf(what, args...))
		return
	}
	tally.refused++
}

// flipped is a copy with one bit turned over: another one for each seed, and the same in every run.
func flipped(bytes []byte, seed int) []byte {
	changed := slices.Clone(bytes)
	bit := (seed*2_654_435_761 + 97) % (8 * len(changed))
	changed[bit/8] ^= 1 << (bit % 8)
	return changed
}

// flippedIn is a copy with one bit of one of its hashes turned over.
func flippedIn(path [][]byte, seed int) [][]byte {
	changed := slices.Clone(path)
	at := seed % len(path)
	changed[at] = flipped(path[at], seed)
	return changed
}
