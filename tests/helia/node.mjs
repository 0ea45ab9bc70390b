// A Helia node for tests: on loopback, with no routing, no discovery and no HTTP.
//
// Prints `listening MULTIADDR` for each address, then `ready`. Obeys lines on standard input:
//   fetch CID MULTIADDR   connects, fetches the whole DAG, answers `fetched BLOCKS BYTES MILLISECONDS`
// An error is answered `failed TEXT`. Ends when standard input does.

import { createInterface } from 'node:readline'
import { quic } from '@chainsafe/libp2p-quic'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import * as dagPb from '@ipld/dag-pb'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'

// Blocks that are asked for at once.
const WANTED = 64
const host = process.argv[2] ?? '127.0.0.1'

const helia = await withBitswap(withLibp2pLight(createHeliaLight(), {
  addresses: { listen: [`/ip4/${host}/tcp/0`, `/ip4/${host}/udp/0/quic-v1`] },
  connectionEncrypters: [noise()],
  connectionGater: { denyDialMultiaddr: () => false },
  services: { identify: identify(), ping: ping() },
  streamMuxers: [yamux()],
  transports: [tcp(), quic()]
})).start()

async function block (cid) {
  const parts = []
  for await (const part of helia.blockstore.get(cid)) parts.push(part)
  return parts.length === 1 ? parts[0] : Buffer.concat(parts)
}

// Several workers take from one list, so that there are always enough wants.
async function fetchAll (root) {
  const todo = [root]
  const seen = new Set([root.toString()])
  let blocks = 0
  let bytes = 0
  let busy = 0
  const next = async () => {
    while (todo.length > 0 || busy > 0) {
      const cid = todo.pop()
      if (cid == null) {
        await new Promise((resolve) => setImmediate(resolve))
        continue
      }
      busy++
      try {
        const got = await block(cid)
        blocks++
        bytes += got.length
        if (cid.code !== dagPb.code) continue
        for (const { Hash } of dagPb.decode(got).Links) {
          if (!seen.has(Hash.toString())) {
            seen.add(Hash.toString())
            todo.push(Hash)
          }
        }
      } finally {
        busy--
      }
    }
  }
  await Promise.all(Array.from({ length: WANTED }, next))
  return { blocks, bytes }
}

async function obey (line) {
  const [verb, cid, address] = line.split(' ')
  if (verb !== 'fetch') throw new Error(`unknown: ${line}`)
  const began = performance.now()
  await helia.libp2p.dial(multiaddr(address))
  const { blocks, bytes } = await fetchAll(CID.parse(cid))
  return `fetched ${blocks} ${bytes} ${Math.round(performance.now() - began)}`
}

for (const address of helia.libp2p.getMultiaddrs()) console.log(`listening ${address}`)
console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  console.log(await obey(line).catch((error) => `failed ${error.message.replaceAll('\n', ' ')}`))
}
process.exit(0)
