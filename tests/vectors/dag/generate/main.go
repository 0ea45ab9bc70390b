// Writes the vectors beside it: what boxo and go-car make of inputs that a few lines can repeat.
//
//	go run . ..
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	chunk "github.com/ipfs/boxo/chunker"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/storage"
	mh "github.com/multiformats/go-multihash"
)

var ctx = context.Background()

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func write(dir, name string, value any) {
	file := must(os.Create(filepath.Join(dir, name)))
	encoder := json.NewEncoder(file)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	if err := file.Close(); err != nil {
		panic(err)
	}
}

func service() ipld.DAGService {
	store := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()), blockstore.NoPrefix())
	return dag.NewDAGService(blockservice.New(store, nil))
}

// leaf is the number i, eight bytes little-endian, repeated 1 + i % 50 times.
func leaf(i int) *dag.RawNode {
	number := binary.LittleEndian.AppendUint64(nil, uint64(i))
	return must(dag.NewRawNodeWPrefix(bytes.Repeat(number, 1+i%50), cid.V1Builder{Codec: cid.Raw, MhType: mh.SHA2_256}))
}

type directory struct {
	Names   string `json:"names"`
	Count   int    `json:"count"`
	Cid     string `json:"cid"`
	Tsize   uint64 `json:"tsize"`
	Sharded bool   `json:"sharded"`
}

// entryName is the name of entry i of count.
func entryName(names string, i, count int) string {
	switch names {
	case "cid":
		return leaf(i).Cid().String()
	case "number":
		return fmt.Sprintf("file-%d", i)
	case "mixed":
		return fmt.Sprintf("é%d 日本 ~%s", i, strings.Repeat("x", i%97))
	case "exact", "above":
		// 1,872 links of 140 bytes, and one that makes the block 262,144 bytes long, or one more.
		if i+1 < count {
			return fmt.Sprintf("%094d", i)
		}
		last := 15
		if names == "above" {
			last++
		}
		return strings.Repeat("z", last)
	}
	panic(names)
}

func makeDirectory(names string, count int) directory {
	dir := must(uio.NewDirectory(service(), uio.WithCidBuilder(uio.UnixFS_v1_2025.CidBuilder())))
	for i := range count {
		node := leaf(i)
		if names == "exact" || names == "above" {
			node = leaf(49)
		}
		if err := dir.AddChild(ctx, entryName(names, i, count), node); err != nil {
			panic(err)
		}
	}
	node := must(dir.GetNode())
	sharded := false
	if dynamic, ok := dir.(*uio.DynamicDirectory); ok {
		_, sharded = dynamic.Directory.(*uio.HAMTDirectory)
	}
	if names == "exact" && len(node.RawData()) != 256<<10 {
		panic(len(node.RawData()))
	}
	return directory{names, count, node.Cid().String(), must(node.Size()), sharded}
}

func directories() []directory {
	var out []directory
	// Where there are two numbers in a row, the second is the first that needs shards.
	counts := map[string][]int{
		"cid":    {0, 1, 2, 100, 2000, 2527, 2528, 5000, 20000},
		"number": {1, 1000, 4902, 4903, 70000},
		"mixed":  {10, 2445, 2446, 5000},
		"exact":  {1873},
		"above":  {1873},
	}
	for _, names := range []string{"cid", "number", "mixed", "exact", "above"} {
		for _, count := range counts[names] {
			out = append(out, makeDirectory(names, count))
		}
	}
	return out
}

type file struct {
	Leaves int    `json:"leaves"`
	Cid    string `json:"cid"`
	Tsize  uint64 `json:"tsize"`
}

// files are cut into leaves of eight bytes: the number of the leaf, little-endian.
func files() []file {
	var out []file
	for _, leaves := range []int{1, 2, 3, 1023, 1024, 1025, 2048, 5000, 1024*1024 + 1} {
		var content bytes.Buffer
		for i := range leaves {
			content.Write(binary.LittleEndian.AppendUint64(nil, uint64(i)))
		}
		node := layout(uio.UnixFS_v1_2025, service(), &content, 8)
		out = append(out, file{leaves, node.Cid().String(), must(node.Size())})
	}
	return out
}

func layout(profile uio.UnixFSProfile, dserv ipld.DAGService, content io.Reader, chunkSize int64) ipld.Node {
	params := helpers.DagBuilderParams{
		Maxlinks:   profile.FileDAGWidth,
		RawLeaves:  profile.RawLeaves,
		CidBuilder: profile.CidBuilder(),
		Dagserv:    dserv,
	}
	return must(balanced.Layout(must(params.New(chunk.NewSizeSplitter(content, chunkSize)))))
}

type block struct {
	Name  string `json:"name"`
	Cid   string `json:"cid"`
	Bytes string `json:"bytes"`
}

func toBlock(name string, node blocks.Block) block {
	return block{name, node.Cid().String(), hex.EncodeToString(node.RawData())}
}

// kubo is what `ipfs add` writes by default: CIDv0, bytes in dag-pb leaves.
func kubo() []block {
	var out []block
	for _, content := range []string{"", "hello\n", "0123456789abcdefghij"} {
		dserv := service()
		node := layout(uio.UnixFS_v0_2015, dserv, strings.NewReader(content), 8)
		out = append(out, toBlock(fmt.Sprintf("%q", content), node))
		for i, link := range node.Links() {
			out = append(out, toBlock(fmt.Sprintf("%q leaf %d", content, i), must(link.GetNode(ctx, dserv))))
		}
	}
	dir := must(uio.NewBasicDirectory(service(), uio.WithCidBuilder(uio.UnixFS_v0_2015.CidBuilder())))
	out = append(out, toBlock("empty directory", must(dir.GetNode())))
	for i := range 3 {
		if err := dir.AddChild(ctx, fmt.Sprintf("file %d", i), leaf(i)); err != nil {
			panic(err)
		}
	}
	return append(out, toBlock("directory of three", must(dir.GetNode())))
}

type carFile struct {
	Name   string   `json:"name"`
	Roots  []string `json:"roots"`
	Blocks []string `json:"blocks"`
	Bytes  string   `json:"bytes"`
}

func makeCar(name string, roots []cid.Cid, content []blocks.Block, options ...car.Option) carFile {
	path := filepath.Join(must(os.MkdirTemp("", "car")), "car")
	defer os.RemoveAll(filepath.Dir(path))
	out := must(os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600))
	options = append(options, car.StoreIdentityCIDs(true))
	writable := must(storage.NewWritable(out, roots, options...))
	result := carFile{Name: name, Roots: []string{}, Blocks: []string{}}
	for _, root := range roots {
		result.Roots = append(result.Roots, root.String())
	}
	for _, item := range content {
		if err := writable.Put(ctx, item.Cid().KeyString(), item.RawData()); err != nil {
			panic(err)
		}
		result.Blocks = append(result.Blocks, item.Cid().String())
	}
	if err := writable.Finalize(); err != nil {
		panic(err)
	}
	result.Bytes = hex.EncodeToString(must(os.ReadFile(path)))
	return result
}

func cars() []carFile {
	dir := must(uio.NewBasicDirectory(service(), uio.WithCidBuilder(uio.UnixFS_v1_2025.CidBuilder())))
	content := []blocks.Block{leaf(0), leaf(1), leaf(70)}
	for i := range 2 {
		if err := dir.AddChild(ctx, fmt.Sprint(i), leaf(i)); err != nil {
			panic(err)
		}
	}
	root := must(dir.GetNode())
	identity := must(cid.V1Builder{Codec: cid.Raw, MhType: mh.IDENTITY}.Sum([]byte("identity")))
	content = append(content, root, must(blocks.NewBlockWithCid([]byte("identity"), identity)))
	one := []cid.Cid{root.Cid()}
	v0 := must(uio.NewBasicDirectory(service(), uio.WithCidBuilder(uio.UnixFS_v0_2015.CidBuilder())))
	empty := must(v0.GetNode())
	v1 := car.WriteAsCarV1(true)
	return []carFile{
		makeCar("v1", one, content, v1),
		makeCar("v1 without blocks", one, nil, v1),
		makeCar("v1 without roots", []cid.Cid{}, content, v1),
		makeCar("v1 with three roots", []cid.Cid{root.Cid(), empty.Cid(), leaf(0).Cid()}, append(content, empty), v1),
		makeCar("v2", one, content),
		makeCar("v2 with padding", one, content, car.UseDataPadding(13), car.UseIndexPadding(7)),
	}
}

func main() {
	dir := os.Args[1]
	uio.UnixFS_v1_2025.ApplyGlobals()
	write(dir, "directories.json", directories())
	write(dir, "files.json", files())
	write(dir, "kubo-blocks.json", kubo())
	write(dir, "cars.json", cars())
}
