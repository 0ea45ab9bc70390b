package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// log is a log over HTTP, whose checkpoint was verified.
type log struct {
	fetcher *client.HTTPFetcher
	tree    tlog.Tree
	hashes  tlog.HashReader
}

func check(args []string) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	var witnesses texts
	var at, from numbers
	flags.Var(&witnesses, "witness", "verifier key that has to have cosigned the checkpoint")
	flags.Var(&at, "at", "indices of entries whose inclusion is proven")
	flags.Var(&from, "from", "sizes that the tree is proven consistent with")
	old := flags.String("old", "", "an earlier checkpoint, that this one has to be consistent with")
	base, vkey, err := two(flags, args)
	if err != nil {
		return err
	}
	log, err := open(base, vkey, witnesses)
	if err != nil {
		return err
	}
	if *old != "" {
		if err := log.follows(*old, vkey); err != nil {
			return err
		}
	}
	if err := log.whole(); err != nil {
		return err
	}
	for _, index := range at {
		if err := log.includes(index); err != nil {
			return fmt.Errorf("inclusion of %d: %w", index, err)
		}
	}
	for _, size := range from {
		if err := log.grewFrom(size, nil); err != nil {
			return fmt.Errorf("consistency from %d: %w", size, err)
		}
	}
	return nil
}

func fetcherOf(base string) (*client.HTTPFetcher, error) {
	root, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = workers
	return client.NewHTTPFetcher(root, &http.Client{Transport: transport})
}

func open(base, vkey string, witnesses []string) (*log, error) {
	fetcher, err := fetcherOf(base)
	if err != nil {
		return nil, err
	}
	signed, err := fetcher.ReadCheckpoint(context.Background())
	if err != nil {
		return nil, err
	}
	tree, err := checkpoint(signed, vkey, witnesses)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	holds("checkpoint of size %d is signed by the log and %d witnesses", tree.N, len(witnesses))
	reader := newTiles(fetcher)
	return &log{fetcher, tree, tlog.TileHashReader(tree, reader)}, nil
}

// checkpoint verifies a signed note, and what is in it.
func checkpoint(signed []byte, vkey string, witnesses []string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	all := []note.Verifier{verifier}
	for _, witness := range witnesses {
		verifier, err := torchwood.NewCosignatureVerifier(witness)
		if err != nil {
			return tlog.Tree{}, err
		}
		all = append(all, verifier)
	}
	opened, err := note.Open(signed, note.VerifierList(all...))
	if err != nil {
		return tlog.Tree{}, err
	}
	for _, verifier := range all {
		if !hasSigned(opened, verifier) {
			return tlog.Tree{}, fmt.Errorf("%s has not signed it", verifier.Name())
		}
	}
	parsed, err := torchwood.ParseCheckpoint(opened.Text)
	if err != nil {
		return tlog.Tree{}, err
	}
	if parsed.Origin != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("it is of %s", parsed.Origin)
	}
	return parsed.Tree, nil
}

func hasSigned(opened *note.Note, verifier note.Verifier) bool {
	for _, signature := range opened.Sigs {
		if signature.Name == verifier.Name() && signature.Hash == verifier.KeyHash() {
			return true
		}
	}
	return false
}

// follows checks that the log has grown out of an earlier checkpoint.
func (log *log) follows(path, vkey string) error {
	signed, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	old, err := checkpoint(signed, vkey, nil)
	if err != nil {
		return fmt.Errorf("earlier checkpoint: %w", err)
	}
	if old.N > log.tree.N {
		return fmt.Errorf("rolled back: it had %d entries, and has %d", old.N, log.tree.N)
	}
	if err := log.grewFrom(uint64(old.N), &old.Hash); err != nil {
		return fmt.Errorf("fork: the checkpoint of size %d is of another tree: %w", old.N, err)
	}
	return nil
}

// includes proves that an entry is in the tree, and checks the proof, by two libraries.
func (log *log) includes(index uint64) error {
	leaf, err := log.leaf(index)
	if err != nil {
		return err
	}
	theirs, err := tlog.ProveRecord(log.tree.N, int64(index), log.hashes)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(theirs, log.tree.N, log.tree.Hash, int64(index), leaf); err != nil {
		return err
	}
	builder, err := client.NewProofBuilder(context.Background(), uint64(log.tree.N), log.fetcher.ReadTile)
	if err != nil {
		return err
	}
	built, err := builder.InclusionProof(context.Background(), index)
	if err != nil {
		return err
	}
	hasher := rfc6962.DefaultHasher
	if err := proof.VerifyInclusion(hasher, index, uint64(log.tree.N), leaf[:], built, log.tree.Hash[:]); err != nil {
		return err
	}
	if len(built) != len(theirs) {
		return fmt.Errorf("the proofs have %d and %d hashes", len(built), len(theirs))
	}
	holds("entry %d is in the tree: %d hashes", index, len(built))
	return nil
}

// grewFrom proves that the tree begins with one of a size, of this root if there is one, and checks the proof, by two
// libraries.
func (log *log) grewFrom(size uint64, root *tlog.Hash) error {
	before, err := tlog.TreeHash(int64(size), log.hashes)
	if err != nil {
		return err
	}
	if root != nil {
		before = *root
	}
	theirs, err := tlog.ProveTree(log.tree.N, int64(size), log.hashes)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(theirs, log.tree.N, log.tree.Hash, int64(size), before); err != nil {
		return err
	}
	builder, err := client.NewProofBuilder(context.Background(), uint64(log.tree.N), log.fetcher.ReadTile)
	if err != nil {
		return err
	}
	built, err := builder.ConsistencyProof(context.Background(), size, uint64(log.tree.N))
	if err != nil {
		return err
	}
	hasher := rfc6962.DefaultHasher
	if err := proof.VerifyConsistency(hasher, size, uint64(log.tree.N), built, before[:], log.tree.Hash[:]); err != nil {
		return err
	}
	holds("the tree begins with that of size %d: %d hashes", size, len(built))
	return nil
}
