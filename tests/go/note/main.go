// Prints the text of a signed note, if who its fourth line names as target signed it: a peer id that
// holds an Ed25519 key.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/mr-tron/base58"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	msg, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	peer := strings.TrimPrefix(strings.Split(string(msg), "\n")[3], "target ")
	id, err := base58.Decode(peer)
	if err != nil {
		return err
	}
	// identity multihash of a protobuf: type Ed25519, 32 bytes
	vkey, err := note.NewEd25519VerifierKey(peer, id[len(id)-32:])
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	opened, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return err
	}
	fmt.Print(opened.Text)
	return nil
}
