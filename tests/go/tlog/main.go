// Verifies logs with the code of others: golang.org/x/mod/sumdb, transparency-dev's merkle and Tessera, and
// torchwood. It knows nothing of what the entries of a log say.
//
// usage: tlog check [-witness VKEY]... [-at INDEX,...] [-from SIZE,...] [-old FILE] URL VKEY
//
//	tlog fsck URL VKEY
//	tlog proof [-policy FILE] FILE VKEY
//
// Prints a line for each thing that holds; ends with 1 at the first that does not.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("check, fsck or proof?"))
	}
	var err error
	switch args := os.Args[2:]; os.Args[1] {
	case "check":
		err = check(args)
	case "fsck":
		err = runFsck(args)
	case "proof":
		err = checkProof(args)
	default:
		err = fmt.Errorf("%s: check, fsck or proof?", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func holds(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
}

// numbers is a flag of numbers with commas between.
type numbers []uint64

func (n *numbers) String() string { return "" }

func (n *numbers) Set(text string) error {
	for _, one := range strings.Split(text, ",") {
		number, err := strconv.ParseUint(one, 10, 63)
		if err != nil {
			return err
		}
		*n = append(*n, number)
	}
	return nil
}

// texts is a flag that may be there several times.
type texts []string

func (t *texts) String() string { return "" }

func (t *texts) Set(text string) error {
	*t = append(*t, text)
	return nil
}

// two reads flags, and the two arguments after them.
func two(flags *flag.FlagSet, args []string) (string, string, error) {
	if err := flags.Parse(args); err != nil {
		return "", "", err
	}
	if flags.NArg() != 2 {
		return "", "", fmt.Errorf("%s: two arguments are needed", flags.Name())
	}
	return flags.Arg(0), flags.Arg(1), nil
}
