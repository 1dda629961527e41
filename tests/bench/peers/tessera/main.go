// Adds the lines of a file to a Tessera log in a folder, each as an entry, with Tessera as a library: its POSIX driver, its
// Badger antispam, checkpoints signed every 100 ms.
//
//	tessera add --log DIR --input FILE [--resume [--all] [--wait]] [--in-flight N] [--lag N]
//	tessera check --log DIR --input FILE
//
// add ends when every line is in a published checkpoint, and prints {events, added, size, seconds, cpu_seconds}. Beside the
// log it keeps how many lines have a durable index. With --resume it is a client that was stopped: it adds the lines behind
// that number again, with --all all lines, since it has lost the number. With --wait it does so only when the antispam knows
// all that is in the log.
//
// check reads every entry of the log, and prints {size, unique, logged_twice, missing}: missing are lines of the file that
// are not in the log.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	badger "github.com/transparency-dev/tessera/storage/posix/antispam"
	"golang.org/x/mod/sumdb/note"
)

const (
	// origin of the log: the name of its key.
	origin = "plant.example/tessera"
	// batch is how many entries are sequenced together, at most; it may be this old.
	batch, age = 1_024, 100 * time.Millisecond
	// every so often a checkpoint is published.
	every = 100 * time.Millisecond
	// tell how many lines are acknowledged at least this often.
	tell = 256
	// look is the time between two looks at what is not there yet.
	look = 5 * time.Millisecond
	// later is how long somebody waits whom the log told to slow down.
	later = 20 * time.Millisecond
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	var err error
	switch os.Args[1] {
	case "add":
		err = add(os.Args[2:])
	case "check":
		err = check(os.Args[2:])
	default:
		usage()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: tessera add|check --log DIR --input FILE; --help after add or check says more")
	os.Exit(2)
}

// sent is a line on its way.
type sent struct {
	line   []byte
	future tessera.IndexFuture
}

// sender adds lines, and gives their indices in order.
type sender struct {
	add tessera.AddFn
	// slots bounds the lines on their way.
	slots chan struct{}
	way   chan sent
	// late are the first of them: the log told them to come again.
	late []sent
}

func (s *sender) send(ctx context.Context, line []byte) {
	s.slots <- struct{}{}
	s.way <- sent{line, s.add(ctx, tessera.NewEntry(line))}
}

// next waits for the index of the next line.
func (s *sender) next(ctx context.Context) (tessera.Index, bool, error) {
	for {
		if len(s.late) == 0 {
			first, ok := <-s.way
			if !ok {
				return tessera.Index{}, false, nil
			}
			s.late = append(s.late, first)
		}
		index, err := s.late[0].future()
		if err == nil {
			s.late = s.late[1:]
			<-s.slots
		}
		if !errors.Is(err, tessera.ErrPushback) {
			return index, true, err
		}
		time.Sleep(later)
		s.again(ctx)
	}
}

// again adds all that were refused, at once: one after the other, each would be a batch.
func (s *sender) again(ctx context.Context) {
	for range len(s.way) {
		if one, ok := <-s.way; ok {
			s.late = append(s.late, one)
		}
	}
	for i, one := range s.late {
		if _, err := one.future(); errors.Is(err, tessera.ErrPushback) {
			s.late[i].future = s.add(ctx, tessera.NewEntry(one.line))
		}
	}
}

func add(arguments []string) error {
	flags := flag.NewFlagSet("add", flag.ExitOnError)
	dir := flags.String("log", "", "folder of the log, its antispam, its key and what is acknowledged")
	input := flags.String("input", "", "file of lines, each an entry")
	resume := flags.Bool("resume", false, "add what was not acknowledged")
	all := flags.Bool("all", false, "with --resume: add all lines")
	wait := flags.Bool("wait", false, "with --resume: first wait until the antispam knows the whole log")
	inFlight := flags.Int("in-flight", 4_096, "lines that are added and have no index yet")
	lag := flags.Uint("lag", badger.DefaultPushbackThreshold, "entries that the antispam may be behind")
	_ = flags.Parse(arguments)
	if *dir == "" || *input == "" || *inFlight < 1 {
		usage()
	}

	begun := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	lines, err := open(*input)
	if err != nil {
		return err
	}
	acks, done, err := openAcks(filepath.Join(*dir, "acks"), *resume, *all)
	if err != nil {
		return err
	}
	defer acks.Close()
	signer, verifier, err := keys(filepath.Join(*dir, "key"))
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: filepath.Join(*dir, "log")})
	if err != nil {
		return err
	}
	spam, err := badger.NewAntispam(ctx, filepath.Join(*dir, "antispam"), badger.AntispamOpts{PushbackThreshold: *lag})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(batch, age).
		WithCheckpointInterval(every).
		WithPushback(uint(2**inFlight)).
		WithAntispam(tessera.DefaultAntispamInMemorySize, spam)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	if *wait {
		if err := knows(ctx, spam, reader); err != nil {
			return err
		}
	}

	way := sender{add: appender.Add, slots: make(chan struct{}, *inFlight), way: make(chan sent, *inFlight)}
	read := make(chan error, 1)
	go func() {
		defer close(way.way)
		read <- each(lines, done, func(line []byte) { way.send(ctx, line) })
	}()
	events, added, last := done, 0, uint64(0)
	for {
		index, ok, err := way.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if !index.IsDup {
			added++
		}
		last = max(last, index.Index)
		events++
		if len(way.slots) == 0 || events%tell == 0 {
			if _, err := fmt.Fprintln(acks, events); err != nil {
				return err
			}
		}
	}
	if err := <-read; err != nil {
		return err
	}
	size, err := published(ctx, reader.ReadCheckpoint, verifier, last)
	if err != nil {
		return err
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	seconds := time.Since(begun).Seconds()
	if err := shutdown(ctx); err != nil {
		return err
	}
	return show(map[string]any{
		"events": events, "added": added, "size": size, "seconds": seconds,
		"cpu_seconds": float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9,
	})
}

// openAcks opens the file that says, in its last whole line, how many lines of the input are acknowledged.
func openAcks(name string, resume, all bool) (*os.File, int, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, 0, err
	}
	how, done := os.O_EXCL, 0
	switch {
	case resume && all:
		how = os.O_TRUNC
	case resume:
		how = os.O_APPEND
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, 0, err
		}
		whole := strings.Split(string(text), "\n")
		if len(whole) > 1 {
			if done, err = strconv.Atoi(whole[len(whole)-2]); err != nil {
				return nil, 0, err
			}
		}
		// What the stop left of a line is not appended to.
		text = text[:len(text)-len(whole[len(whole)-1])]
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return nil, 0, err
		}
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|how, 0o644)
	return file, done, err
}

// knows waits until the antispam has seen all entries of the log.
func knows(ctx context.Context, spam *badger.AntispamStorage, log tessera.LogReader) error {
	follower := spam.Follower(nil)
	for {
		size, err := log.IntegratedSize(ctx)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		seen, err := follower.EntriesProcessed(ctx)
		if err != nil {
			return err
		}
		if seen >= size {
			return nil
		}
		time.Sleep(look)
	}
}

// published waits until a checkpoint holds an index, and returns its size.
func published(ctx context.Context, read client.CheckpointFetcherFunc, verifier note.Verifier, index uint64) (uint64, error) {
	for {
		checkpoint, _, _, err := client.FetchCheckpoint(ctx, read, verifier, origin)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		if err == nil && checkpoint.Size > index {
			return checkpoint.Size, nil
		}
		time.Sleep(look)
	}
}

func check(arguments []string) error {
	flags := flag.NewFlagSet("check", flag.ExitOnError)
	dir := flags.String("log", "", "folder that add was given")
	input := flags.String("input", "", "file that add was given")
	_ = flags.Parse(arguments)
	if *dir == "" || *input == "" {
		usage()
	}
	ctx := context.Background()
	_, verifier, err := keys(filepath.Join(*dir, "key"))
	if err != nil {
		return err
	}
	files := client.FileFetcher{Root: filepath.Join(*dir, "log")}
	size, err := published(ctx, files.ReadCheckpoint, verifier, 0)
	if err != nil {
		return err
	}
	logged := map[[sha256.Size]byte]int{}
	for bundle := range layout.Range(0, size, size) {
		entries, err := client.GetEntryBundle(ctx, files.ReadEntryBundle, bundle.Index, size)
		if err != nil {
			return err
		}
		for _, entry := range entries.Entries {
			logged[sha256.Sum256(entry)]++
		}
	}
	lines, err := open(*input)
	if err != nil {
		return err
	}
	missing := 0
	if err := each(lines, 0, func(line []byte) {
		if logged[sha256.Sum256(line)] == 0 {
			missing++
		}
	}); err != nil {
		return err
	}
	twice := 0
	for _, times := range logged {
		if times > 1 {
			twice++
		}
	}
	return show(map[string]any{"size": size, "unique": len(logged), "logged_twice": twice, "missing": missing})
}

// keys of the log, made when there are none.
func keys(name string) (note.Signer, note.Verifier, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		secret, public, err := note.GenerateKey(rand.Reader, origin)
		if err != nil {
			return nil, nil, err
		}
		text = []byte(secret + "\n" + public + "\n")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return nil, nil, err
		}
	} else if err != nil {
		return nil, nil, err
	}
	secret, public, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(public)
	return signer, verifier, err
}

func open(name string) (*bufio.Reader, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return bufio.NewReaderSize(file, 1<<20), nil
}

// each gives the lines behind the first `skip`, without their ends; each is the receiver's own.
func each(lines *bufio.Reader, skip int, take func([]byte)) error {
	for number := 0; ; number++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if number >= skip {
			take(line[:len(line)-len("\n")])
		}
	}
}

func show(what map[string]any) error {
	return json.NewEncoder(os.Stdout).Encode(what)
}
