// Package interop has programs of others check what Killick has made: its trees, proofs, checkpoints and receipts.
//
// INTEROP_DATA is the folder that tests/interop/run fills; without it there is nothing to check, and the tests fail.
package interop

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/mod/sumdb/note"
)

// data is what there is to check, read from the files alone.
type data struct {
	logs    []*hashLog
	batches []*batch
}

// hashLog is a log: its batch headers in order, and every checkpoint of it that is in a receipt, the smallest first.
type hashLog struct {
	origin      string
	verifier    note.Verifier
	headers     [][]byte
	checkpoints []checkpoint
}

// checkpoint is what a signed note says once its signature has been checked.
type checkpoint struct {
	note string
	size int64
	root []byte
}

// batch is a batch as its receipts have it.
type batch struct {
	log        *hashLog
	header     []byte
	fields     header
	statements [][]byte
	paths      [][][]byte
	logPath    [][]byte
	checkpoint checkpoint
}

// header is a batch header: a CBOR array of 12.
type header struct {
	_                     struct{} `cbor:",toarray"`
	Version               uint64
	Origin                string
	Number                uint64
	Hash                  string
	FirstOffset           uint64
	LastOffset            uint64
	FirstTime             int64
	LastTime              int64
	LeafCount             uint64
	Root                  []byte
	Duplicates, Conflicts uint64
}

// receipt is what stands in a receipt in JSON, as far as the log.
type receipt struct {
	Statement text
	Batch     struct {
		Header text
		Index  int
		Path   []text
	}
	Log struct {
		Checkpoint string
		Index      int
		Path       []text
	}
}

// text is bytes that JSON has in base64url.
type text []byte

func (t *text) UnmarshalJSON(quoted []byte) error {
	var encoded string
	if err := json.Unmarshal(quoted, &encoded); err != nil {
		return err
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	*t = decoded
	return err
}

func hashes(texts []text) [][]byte {
	path := make([][]byte, len(texts))
	for i, hash := range texts {
		path[i] = hash
	}
	return path
}

// folder is a folder of INTEROP_DATA.
func folder(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("INTEROP_DATA")
	if root == "" {
		t.Fatal("INTEROP_DATA is not set: start tests/interop/run")
	}
	return filepath.Join(root, name)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// files are the files of a folder of INTEROP_DATA that end so, by name.
func files(t *testing.T, name, ending string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder(t, name), "*"+ending))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no *%s in %s: %v", ending, name, err)
	}
	return paths
}

// verifiers are the keys of the logs in the trust file, by origin.
func verifiers(t *testing.T) map[string]string {
	t.Helper()
	var trust struct{ Logs []string }
	if err := json.Unmarshal(read(t, folder(t, "trust.json")), &trust); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for _, key := range trust.Logs {
		origin, _, _ := strings.Cut(key, "+")
		keys[origin] = key
	}
	return keys
}

// load reads all receipts, and puts batches and logs together again.
func load(t *testing.T) data {
	t.Helper()
	logs, batches := map[string]*hashLog{}, map[string]*batch{}
	for origin, key := range verifiers(t) {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		logs[origin] = &hashLog{origin: origin, verifier: verifier}
	}
	for _, path := range files(t, "receipts", ".json") {
		var receipt receipt
		if err := json.Unmarshal(read(t, path), &receipt); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		found := batches[string(receipt.Batch.Header)]
		if found == nil {
			found = newBatch(t, &receipt, logs)
			batches[string(receipt.Batch.Header)] = found
		}
		found.statements[receipt.Batch.Index] = receipt.Statement
		found.paths[receipt.Batch.Index] = hashes(receipt.Batch.Path)
	}
	all := data{logs: slices.Collect(maps.Values(logs)), batches: slices.Collect(maps.Values(batches))}
	slices.SortFunc(all.logs, func(a, b *hashLog) int { return cmp.Compare(a.origin, b.origin) })
	slices.SortFunc(all.batches, func(a, b *batch) int {
		return cmp.Or(cmp.Compare(a.log.origin, b.log.origin), cmp.Compare(a.fields.Number, b.fields.Number))
	})
	for _, batch := range all.batches {
		log := batch.log
		if int(batch.fields.Number) != len(log.headers) {
			t.Fatalf("%s has no batch %d", log.origin, len(log.headers))
		}
		log.headers = append(log.headers, batch.header)
		if last := len(log.checkpoints) - 1; last < 0 || log.checkpoints[last].note != batch.checkpoint.note {
			log.checkpoints = append(log.checkpoints, batch.checkpoint)
		}
		for index, statement := range batch.statements {
			if statement == nil {
				t.Fatalf("%s has no receipt of event %d in batch %d", log.origin, index, batch.fields.Number)
			}
		}
	}
	return all
}

func newBatch(t *testing.T, receipt *receipt, logs map[string]*hashLog) *batch {
	t.Helper()
	made := &batch{header: receipt.Batch.Header, logPath: hashes(receipt.Log.Path)}
	if err := cbor.Unmarshal(made.header, &made.fields); err != nil {
		t.Fatal(err)
	}
	made.log = logs[made.fields.Origin]
	if made.log == nil {
		t.Fatalf("no key of %s", made.fields.Origin)
	}
	if receipt.Log.Index != int(made.fields.Number) {
		t.Fatalf("batch %d has the index %d", made.fields.Number, receipt.Log.Index)
	}
	made.checkpoint = parse(t, made.log, receipt.Log.Checkpoint)
	made.statements = make([][]byte, made.fields.LeafCount)
	made.paths = make([][][]byte, made.fields.LeafCount)
	return made
}
