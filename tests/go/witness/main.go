// Has a witness cosign the checkpoint of a log, with transparency-dev's client of witnesses, Tessera's proofs and
// torchwood's check of the cosignature.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"filippo.io/torchwood"
	"github.com/transparency-dev/tessera/client"
	witnesses "github.com/transparency-dev/witness/client/http"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	old := flag.Uint64("old", 0, "the size that the witness is thought to have cosigned last")
	flag.Parse()
	if flag.NArg() != 4 {
		return errors.New("usage: witness [-old SIZE] LOG-URL LOG-KEY WITNESS-URL WITNESS-KEY")
	}
	ctx := context.Background()
	logURL, err := url.Parse(strings.TrimRight(flag.Arg(0), "/") + "/")
	if err != nil {
		return err
	}
	logKey, err := note.NewVerifier(flag.Arg(1))
	if err != nil {
		return fmt.Errorf("log key: %w", err)
	}
	witnessURL, err := url.Parse(flag.Arg(2))
	if err != nil {
		return err
	}
	witnessKey, err := torchwood.NewCosignatureVerifier(flag.Arg(3))
	if err != nil {
		return fmt.Errorf("witness key: %w", err)
	}
	fetcher, err := client.NewHTTPFetcher(logURL, http.DefaultClient)
	if err != nil {
		return err
	}
	signed, err := fetcher.ReadCheckpoint(ctx)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	opened, err := note.Open(signed, note.VerifierList(logKey))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	checkpoint, err := torchwood.ParseCheckpoint(opened.Text)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	size := uint64(checkpoint.N)
	builder, err := client.NewProofBuilder(ctx, size, fetcher.ReadTile)
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	asked := witnesses.NewWitness(witnessURL, http.DefaultClient)
	for {
		var proof [][]byte
		if *old > 0 {
			if proof, err = builder.ConsistencyProof(ctx, *old, size); err != nil {
				return fmt.Errorf("proof: %w", err)
			}
		}
		lines, last, err := asked.Update(ctx, *old, signed, proof)
		if errors.Is(err, witness.ErrCheckpointStale) && last <= size && last != *old {
			fmt.Printf("it cosigned %d entries last, not %d\n", last, *old)
			*old = last
			continue
		}
		if err != nil {
			return fmt.Errorf("the witness: %w (it cosigned %d)", err, last)
		}
		text := append(bytes.Clone(signed), lines...)
		if _, err := note.Open(text, note.VerifierList(witnessKey)); err != nil {
			return fmt.Errorf("cosignature: %w", err)
		}
		if err := served(ctx, witnessURL, opened.Text, lines, logKey, witnessKey); err != nil {
			return fmt.Errorf("what the witness serves: %w", err)
		}
		fmt.Printf("%d entries are cosigned\n", size)
		return nil
	}
}

// Checks that a witness serves what it cosigned, as monitors read it, with the signatures of both.
func served(ctx context.Context, witness *url.URL, text string, lines []byte, keys ...note.Verifier) error {
	origin, _, _ := strings.Cut(text, "\n")
	hash := sha256.Sum256([]byte(origin))
	where := witness.JoinPath(hex.EncodeToString(hash[:]), "checkpoint").String()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s for %s", answer.Status, where)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return err
	}
	for _, key := range keys {
		opened, err := note.Open(body, note.VerifierList(key))
		if err != nil {
			return err
		}
		if opened.Text != text {
			return fmt.Errorf("another checkpoint: %q", opened.Text)
		}
	}
	if !bytes.Contains(body, lines) {
		return errors.New("another cosignature")
	}
	return nil
}
