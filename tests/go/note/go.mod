// What reads the notes that are signed here, by exact version.
module souverain/tests/note

go 1.26.0

require (
	github.com/mr-tron/base58 v1.2.0
	golang.org/x/mod v0.42.0
)
