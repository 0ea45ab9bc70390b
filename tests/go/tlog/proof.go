package main

import (
	"flag"
	"os"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// checkProof verifies a file of c2sp.org/tlog-proof@v1 that has its entry as extra data.
func checkProof(args []string) error {
	flags := flag.NewFlagSet("proof", flag.ContinueOnError)
	policyFile := flags.String("policy", "", "a policy that the checkpoint has to satisfy")
	path, vkey, err := two(flags, args)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	policy := torchwood.ThresholdPolicy(2,
		torchwood.OriginPolicy(verifier.Name()), torchwood.SingleVerifierPolicy(verifier))
	if *policyFile != "" {
		text, err := os.ReadFile(*policyFile)
		if err != nil {
			return err
		}
		if policy, err = torchwood.ParsePolicy(text); err != nil {
			return err
		}
	}
	proof, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	entry, err := torchwood.ProofExtraData(proof)
	if err != nil {
		return err
	}
	if err := torchwood.VerifyProof(policy, tlog.RecordHash(entry), proof); err != nil {
		return err
	}
	holds("an entry of %d bytes is in the log", len(entry))
	return nil
}
