// Command age-plugin-probe is an age plugin for tests, over age's own framework for plugins.
//
// Its keys are the age keys that their data spells. With -generate it prints an identity and its
// recipient; with -generate -pq, post-quantum ones.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/plugin"
)

const name = "probe"

func main() {
	p, err := plugin.New(name)
	if err != nil {
		log.Fatal(err)
	}
	p.RegisterFlags(nil)
	generate := flag.Bool("generate", false, "print a new identity and its recipient")
	pq := flag.Bool("pq", false, "make it post-quantum")
	flag.Parse()
	if *generate {
		if err := printNew(*pq); err != nil {
			log.Fatal(err)
		}
		return
	}
	p.HandleRecipient(func(data []byte) (age.Recipient, error) {
		recipients, err := age.ParseRecipients(strings.NewReader(string(data)))
		if err != nil {
			return nil, err
		}
		return recipients[0], nil
	})
	p.HandleIdentity(func(data []byte) (age.Identity, error) {
		if err := p.DisplayMessage("the probe is touched"); err != nil {
			return nil, err
		}
		identities, err := age.ParseIdentities(strings.NewReader(string(data)))
		if err != nil {
			return nil, err
		}
		return identities[0], nil
	})
	os.Exit(p.Main())
}

func printNew(pq bool) error {
	var identity, recipient fmt.Stringer
	if pq {
		i, err := age.GenerateHybridIdentity()
		if err != nil {
			return err
		}
		identity, recipient = i, i.Recipient()
	} else {
		i, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		identity, recipient = i, i.Recipient()
	}
	fmt.Println(plugin.EncodeIdentity(name, []byte(identity.String())))
	fmt.Println(plugin.EncodeRecipient(name, []byte(recipient.String())))
	return nil
}
