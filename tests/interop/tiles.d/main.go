// Reads a published log with clients that know nothing of Killick, and says what they accept and what they refuse.
//
//	tiles KEY DIR|URL [OLD-CHECKPOINT…]
//
// KEY is the log's note verifier key. Two clients look at the same files, each by its own code: golang.org/x/mod/sumdb/tlog
// (TileHashReader, ReadTileData) and github.com/transparency-dev/tessera (client, with transparency-dev/merkle). Each proves
// that every entry is in the tree of the checkpoint, and that the trees of the old checkpoints are its beginnings. Then bits
// are flipped, some in every file, one at a time: each client has to refuse every one of them.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Bits that are flipped in each file.
const flips = 40

// height of tiles: 256 hashes.
const height = 8

// files of a log by their paths below its folder.
type files map[string][]byte

// old is a checkpoint that was published before.
type old struct {
	size uint64
	root []byte
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: tiles KEY DIR|URL [OLD-CHECKPOINT...]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(key, place string, notes []string) error {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	var olds []old
	for _, name := range notes {
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		size, root, err := checkpoint(raw, verifier)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		olds = append(olds, old{size, root})
	}
	log, size, err := load(place, verifier)
	if err != nil {
		return err
	}
	tiles, err := sameTiles(log, size)
	if err != nil {
		return err
	}
	clients := []struct {
		name string
		look func(files, note.Verifier, []old) (int, error)
	}{{"x/mod/sumdb/tlog", withTlog}, {"tessera/client", withTessera}}
	for _, client := range clients {
		accepted, err := client.look(log, verifier, olds)
		if err != nil {
			return fmt.Errorf("%s refuses a log that is right: %w", client.name, err)
		}
		refused, tried := 0, 0
		for path, bits := range bitsOf(log) {
			for _, bit := range bits {
				changed := files{}
				for other, content := range log {
					changed[other] = content
				}
				changed[path] = slices.Clone(log[path])
				changed[path][bit/8] ^= 1 << (bit % 8)
				tried++
				if _, err := client.look(changed, verifier, olds); err != nil {
					refused++
				} else {
					fmt.Printf("%s accepts %s with bit %d flipped\n", client.name, path, bit)
				}
			}
		}
		fmt.Printf("%s: size %d, %d entries and %d earlier trees accepted; %d of %d flipped bits refused\n",
			client.name, size, accepted, len(olds), refused, tried)
		if refused != tried {
			return errors.New("a flipped bit is accepted")
		}
	}
	fmt.Printf("x/mod/sumdb/tlog: %d tiles computed from the entries, all the same byte for byte\n", tiles)
	return nil
}

// bitsOf chooses bits of every file: the first, the last, and some in between.
func bitsOf(log files) map[string][]int {
	chosen := map[string][]int{}
	for path, content := range log {
		last := len(content)*8 - 1
		for i := range flips {
			chosen[path] = append(chosen[path], last*i/(flips-1))
		}
	}
	return chosen
}

func checkpoint(raw []byte, verifier note.Verifier) (uint64, []byte, error) {
	read := func(context.Context) ([]byte, error) { return raw, nil }
	cp, _, _, err := client.FetchCheckpoint(context.Background(), read, verifier, verifier.Name())
	if err != nil {
		return 0, nil, err
	}
	return cp.Size, cp.Hash, nil
}

// load reads all files of the tree that the checkpoint is of.
func load(place string, verifier note.Verifier) (files, uint64, error) {
	var (
		ctx    = context.Background()
		local  = client.FileFetcher{Root: place}
		signed = local.ReadCheckpoint
		tile   = local.ReadTile
		bundle = local.ReadEntryBundle
	)
	if strings.HasPrefix(place, "http://") {
		root, err := url.Parse(strings.TrimSuffix(place, "/") + "/")
		if err != nil {
			return nil, 0, err
		}
		remote, err := client.NewHTTPFetcher(root, &http.Client{Timeout: 10 * time.Second})
		if err != nil {
			return nil, 0, err
		}
		signed, tile, bundle = remote.ReadCheckpoint, remote.ReadTile, remote.ReadEntryBundle
	}
	raw, err := signed(ctx)
	if err != nil {
		return nil, 0, err
	}
	size, _, err := checkpoint(raw, verifier)
	if err != nil {
		return nil, 0, err
	}
	log := files{layout.CheckpointPath: raw}
	for _, t := range tlog.NewTiles(height, 0, int64(size)) {
		level, index, width := uint64(t.L), uint64(t.N), uint8(t.W%256)
		if log[path(t)], err = tile(ctx, level, index, width); err != nil {
			return nil, 0, err
		}
		if level == 0 {
			if log[layout.EntriesPath(index, width)], err = bundle(ctx, index, width); err != nil {
				return nil, 0, err
			}
		}
	}
	return log, size, nil
}

// path of a tile: that of x/mod, in which the height stands too.
func path(tile tlog.Tile) string {
	return "tile/" + strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
}

func (log files) read(path string) ([]byte, error) {
	content, is := log[path]
	if !is {
		return nil, fmt.Errorf("%s: %w", path, os.ErrNotExist)
	}
	return content, nil
}

func (log files) bundle(_ context.Context, index uint64, width uint8) ([]byte, error) {
	return log.read(layout.EntriesPath(index, width))
}

func (log files) tile(_ context.Context, level, index uint64, width uint8) ([]byte, error) {
	return log.read(layout.TilePath(level, index, width))
}

// entries of a log of that size, in order.
func (log files) entries(size uint64) ([][]byte, error) {
	var entries [][]byte
	for index := uint64(0); index*256 < size; index++ {
		bundle, err := client.GetEntryBundle(context.Background(), log.bundle, index, size)
		if err != nil {
			return nil, err
		}
		if want := min(256, size-index*256); uint64(len(bundle.Entries)) != want {
			return nil, fmt.Errorf("bundle %d has %d entries, and %d are needed", index, len(bundle.Entries), want)
		}
		entries = append(entries, bundle.Entries...)
	}
	return entries, nil
}

// hashes of a log in memory, in the order of x/mod.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(h)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		found[i] = h[index]
	}
	return found, nil
}

// sameTiles makes every tile from the entries with x/mod's own code, and compares it with the file.
func sameTiles(log files, size uint64) (int, error) {
	entries, err := log.entries(size)
	if err != nil {
		return 0, err
	}
	var stored hashes
	for i, entry := range entries {
		more, err := tlog.StoredHashes(int64(i), entry, stored)
		if err != nil {
			return 0, err
		}
		stored = append(stored, more...)
	}
	tiles := tlog.NewTiles(height, 0, int64(size))
	for _, tile := range tiles {
		data, err := tlog.ReadTileData(tile, stored)
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(data, log[path(tile)]) {
			return 0, fmt.Errorf("%s is not what its entries make", path(tile))
		}
	}
	return len(tiles), nil
}

// Height, ReadTiles and SaveTiles make the files a tlog.TileReader.
func (log files) Height() int                     { return height }
func (log files) SaveTiles([]tlog.Tile, [][]byte) {}
func (log files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		var err error
		if data[i], err = log.read(path(tile)); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// withTlog proves every entry, and every earlier tree, with x/mod.
func withTlog(log files, verifier note.Verifier, olds []old) (int, error) {
	opened, err := note.Open(log[layout.CheckpointPath], note.VerifierList(verifier))
	if err != nil {
		return 0, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return 0, errors.New("no checkpoint of this log")
	}
	var size int64
	if _, err := fmt.Sscan(lines[1], &size); err != nil {
		return 0, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return 0, err
	}
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, log)
	for _, old := range olds {
		path, err := tlog.ProveTree(size, int64(old.size), reader)
		if err != nil {
			return 0, err
		}
		if err := tlog.CheckTree(path, size, root, int64(old.size), tlog.Hash(old.root)); err != nil {
			return 0, err
		}
	}
	entries, err := log.entries(uint64(size))
	if err != nil {
		return 0, err
	}
	for i, entry := range entries {
		path, err := tlog.ProveRecord(size, int64(i), reader)
		if err != nil {
			return 0, err
		}
		if err := tlog.CheckRecord(path, size, root, int64(i), tlog.RecordHash(entry)); err != nil {
			return 0, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return len(entries), nil
}

// withTessera does the same with Tessera's client and transparency-dev/merkle.
func withTessera(log files, verifier note.Verifier, olds []old) (int, error) {
	ctx := context.Background()
	size, root, err := checkpoint(log[layout.CheckpointPath], verifier)
	if err != nil {
		return 0, err
	}
	builder, err := client.NewProofBuilder(ctx, size, log.tile)
	if err != nil {
		return 0, err
	}
	hasher := rfc6962.DefaultHasher
	for _, old := range olds {
		path, err := builder.ConsistencyProof(ctx, old.size, size)
		if err != nil {
			return 0, err
		}
		if err := proof.VerifyConsistency(hasher, old.size, size, path, old.root, root); err != nil {
			return 0, err
		}
	}
	entries, err := log.entries(size)
	if err != nil {
		return 0, err
	}
	for i, entry := range entries {
		path, err := builder.InclusionProof(ctx, uint64(i))
		if err != nil {
			return 0, err
		}
		leaf := hasher.HashLeaf(entry)
		if err := proof.VerifyInclusion(hasher, uint64(i), size, leaf, path, root); err != nil {
			return 0, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return len(entries), nil
}
