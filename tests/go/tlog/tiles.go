package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/tlog"
)

// workers is how many tiles are fetched at a time.
const workers = 8

// tiles reads tiles of hashes for tlog, which checks them against the root. Those that it checked are kept.
type tiles struct {
	fetcher *client.HTTPFetcher
	mutex   sync.Mutex
	kept    map[tlog.Tile][]byte
}

func newTiles(fetcher *client.HTTPFetcher) *tiles {
	return &tiles{fetcher: fetcher, kept: make(map[tlog.Tile][]byte)}
}

func (t *tiles) Height() int { return layout.TileHeight }

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(wanted))
	for i, tile := range wanted {
		t.mutex.Lock()
		data, ok := t.kept[tile]
		t.mutex.Unlock()
		if !ok {
			var err error
			data, err = t.fetcher.ReadTile(context.Background(), uint64(tile.L), uint64(tile.N), partial(tile.W))
			if err != nil {
				return nil, err
			}
		}
		// The full tile may have come for one that is not.
		if size := tile.W * tlog.HashSize; len(data) == layout.TileWidth*tlog.HashSize {
			data = data[:size]
		}
		all[i] = data
	}
	return all, nil
}

func (t *tiles) SaveTiles(checked []tlog.Tile, data [][]byte) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for i, tile := range checked {
		t.kept[tile] = data[i]
	}
}

// partial is how a path says how many hashes or entries there are.
func partial(width int) uint8 {
	return uint8(width % layout.TileWidth)
}

// entries are those of a bundle, as many as the tree has of it.
func (log *log) entries(bundle uint64) ([][]byte, error) {
	width := min(uint64(log.tree.N)-bundle*layout.EntryBundleWidth, layout.EntryBundleWidth)
	data, err := log.fetcher.ReadEntryBundle(context.Background(), bundle, partial(int(width)))
	if err != nil {
		return nil, err
	}
	var parsed api.EntryBundle
	if err := parsed.UnmarshalText(data); err != nil {
		return nil, err
	}
	found := uint64(len(parsed.Entries))
	if found != width && found != layout.EntryBundleWidth {
		return nil, fmt.Errorf("it has %d entries in place of %d", found, width)
	}
	return parsed.Entries[:width], nil
}

func (log *log) leaf(index uint64) (tlog.Hash, error) {
	if index >= uint64(log.tree.N) {
		return tlog.Hash{}, fmt.Errorf("the log has %d entries", log.tree.N)
	}
	entries, err := log.entries(index / layout.EntryBundleWidth)
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.RecordHash(entries[index%layout.EntryBundleWidth]), nil
}

// whole checks all entries against the tiles, and all tiles against the root.
func (log *log) whole() error {
	count := (uint64(log.tree.N) + layout.EntryBundleWidth - 1) / layout.EntryBundleWidth
	bundles := make(chan uint64)
	failures := make(chan error, workers)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for bundle := range bundles {
				if err := log.bundle(bundle); err != nil {
					failures <- fmt.Errorf("bundle %d: %w", bundle, err)
					return
				}
			}
		})
	}
	var failure error
	for bundle := uint64(0); bundle < count && failure == nil; {
		select {
		case bundles <- bundle:
			bundle++
		case failure = <-failures:
		}
	}
	close(bundles)
	group.Wait()
	close(failures)
	for err := range failures {
		failure = err
	}
	if failure != nil {
		return failure
	}
	holds("%d entries and all tiles over them lead to the root", log.tree.N)
	return nil
}

func (log *log) bundle(bundle uint64) error {
	entries, err := log.entries(bundle)
	if err != nil {
		return err
	}
	first := bundle * layout.EntryBundleWidth
	indexes := make([]int64, len(entries))
	for i := range entries {
		indexes[i] = tlog.StoredHashIndex(0, int64(first)+int64(i))
	}
	hashes, err := log.hashes.ReadHashes(indexes)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if tlog.RecordHash(entry) != hashes[i] {
			return fmt.Errorf("entry %d is not that of the tree", first+uint64(i))
		}
	}
	return nil
}
