package interop

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// parse opens a checkpoint with the key of its log, and reads its three lines.
func parse(t *testing.T, log *hashLog, signed string) checkpoint {
	t.Helper()
	opened, err := note.Open([]byte(signed), note.VerifierList(log.verifier))
	if err != nil {
		t.Fatalf("checkpoint of %s: %v", log.origin, err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != log.origin || lines[3] != "" {
		t.Fatalf("not a checkpoint of %s: %q", log.origin, opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != 32 {
		t.Fatalf("root %q: %v", lines[2], err)
	}
	return checkpoint{note: signed, size: size, root: root}
}

func TestNote(t *testing.T) {
	all, keys := load(t), verifiers(t)
	tally := newTally(t, "golang.org/x/mod/sumdb/note")
	for _, log := range all.logs {
		known := note.VerifierList(log.verifier)
		for seed, checkpoint := range log.checkpoints {
			opened, err := note.Open([]byte(checkpoint.note), known)
			if err == nil && (len(opened.Sigs) != 1 || len(opened.UnverifiedSigs) != 0) {
				err = errors.New("not signed by the log alone")
			}
			tally.accepts(err, "checkpoint of size %d of %s", checkpoint.size, log.origin)

			for number, name := range []string{"origin", "size", "root"} {
				_, err := note.Open(withOtherLine([]byte(checkpoint.note), number, seed), known)
				tally.refuses(err, "checkpoint of %s with another %s", log.origin, name)
			}
			_, err = note.Open(withOtherSignature(t, []byte(checkpoint.note), seed), known)
			tally.refuses(err, "checkpoint of %s with another signature", log.origin)
		}
		// A key names itself by a hash of name and key.
		key := []byte(keys[log.origin])
		key[len(key)-2] ^= 1
		_, err := note.NewVerifier(string(key))
		tally.refuses(err, "another key of %s", log.origin)
	}
}

// withOtherLine is a note with one bit flipped in a line of its text: the lowest of a byte, so that it stays text.
func withOtherLine(signed []byte, number, seed int) []byte {
	lines := strings.Split(string(signed), "\n")
	line := []byte(lines[number])
	line[seed%len(line)] ^= 1
	lines[number] = string(line)
	return []byte(strings.Join(lines, "\n"))
}

// withOtherSignature is a note with one bit flipped in its signature, below base64.
func withOtherSignature(t *testing.T, signed []byte, seed int) []byte {
	t.Helper()
	at := strings.LastIndex(string(signed), " ") + 1
	bytes, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(signed[at:])))
	if err != nil {
		t.Fatal(err)
	}
	wrong := base64.StdEncoding.EncodeToString(append(bytes[:4:4], flipped(bytes[4:], seed)...))
	return []byte(string(signed[:at]) + wrong + "\n")
}
