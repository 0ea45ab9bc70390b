package main

import (
	"context"
	"flag"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
)

// runFsck is Tessera's cmd/fsck, which ends with 0 whatever it finds.
func runFsck(args []string) error {
	base, vkey, err := two(flag.NewFlagSet("fsck", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	fetcher, err := fetcherOf(base)
	if err != nil {
		return err
	}
	checked := fsck.New(verifier.Name(), verifier, fetcher, leafHashes, fsck.Opts{N: workers})
	if err := checked.Check(context.Background()); err != nil {
		return err
	}
	status := checked.Status()
	holds("fsck: %d resources, %d bytes", status.ResourcesFetched, status.BytesFetched)
	return nil
}

func leafHashes(bundle []byte) ([][]byte, error) {
	var parsed api.EntryBundle
	if err := parsed.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(parsed.Entries))
	for _, entry := range parsed.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}
