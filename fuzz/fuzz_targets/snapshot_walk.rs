//! A snapshot of nodes that a small program puts together: a walk ends, and finds nothing wrong
//! only with what we would have written ourselves.
#![no_main]

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use cid::{Cid, multihash::Multihash};
use libfuzzer_sys::fuzz_target;
use souverain_protocol::{
    block::{Block, CODEC_DAG_PB, HASH_SHA2_256, UnverifiedBlock, raw_cid, sha256},
    snapshot::{Damage, Layout, Object, Visit, folder, walk},
    unixfs::{self, BuildError, Entry, File, Link, Node, Part, Slot},
};

/// The names that matter, and some that do not.
const NAMES: &[&str] = &[
    "RECOVER.md",
    "capsule.age",
    "manifest.age",
    "recover.sh",
    "s",
    "aa",
    "ai",
    "zz",
    "x",
];

#[derive(Default)]
struct Machine {
    blocks: HashMap<Cid, Vec<u8>>,
    stack: Vec<Entry>,
}

impl Machine {
    fn push(&mut self, link: Link) {
        let (cid, tsize) = (link.cid, link.tsize);
        self.stack.push(Entry {
            name: cid.to_string(),
            cid,
            tsize,
        });
    }

    /// Takes the top entries off, none twice of one name, in order of their names.
    fn take(&mut self, count: u8) -> Vec<Entry> {
        let from = self.stack.len().saturating_sub(count.into());
        let top = self
            .stack
            .drain(from..)
            .map(|entry| (entry.name.clone(), entry));
        top.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    fn node(&mut self, node: &Node, tsizes: u64) {
        let bytes = node.encode().expect("not raw");
        let hash = Multihash::wrap(HASH_SHA2_256, &sha256(&bytes)).expect("32 bytes fit");
        let cid = Cid::new_v1(CODEC_DAG_PB, hash);
        let tsize = tsizes.saturating_add(bytes.len() as u64);
        self.blocks.insert(cid, bytes);
        self.push(Link { cid, tsize });
    }

    fn step(&mut self, operation: u8, argument: u8) {
        match operation % 8 {
            0 => {
                let bytes = vec![argument; 1 + usize::from(argument)];
                let cid = raw_cid(&sha256(&bytes));
                let tsize = bytes.len() as u64;
                self.blocks.insert(cid, bytes);
                self.push(Link { cid, tsize });
            }
            1 => {
                let digest = [argument / 2 * 2; 32];
                let cid = raw_cid(&digest);
                self.push(Link {
                    cid,
                    tsize: u64::from(argument),
                });
            }
            2 => {
                if let Some(top) = self.stack.last_mut() {
                    top.name = NAMES[usize::from(argument) % NAMES.len()].to_owned();
                }
            }
            3 => {
                if let Some(top) = self.stack.last_mut() {
                    top.tsize = top.tsize.wrapping_add_signed((argument as i8).into());
                }
            }
            4 => {
                let entries = self.take(argument);
                let tsizes = sum(entries.iter().map(|entry| entry.tsize));
                self.node(&Node::Directory(entries), tsizes);
            }
            5 => self.shard(argument),
            6 => {
                let entries = self.take(argument);
                let tsizes = sum(entries.iter().map(|entry| entry.tsize));
                let part = |entry: &Entry| Part {
                    link: Link {
                        cid: entry.cid,
                        tsize: entry.tsize,
                    },
                    len: entry.tsize,
                };
                let parts = entries.iter().map(part).collect();
                let file = File {
                    raw: false,
                    data: Vec::new(),
                    parts,
                };
                self.node(&Node::File(file), tsizes);
            }
            _ => {
                if let Some(top) = self.stack.last() {
                    self.blocks.remove(&top.cid.clone());
                }
            }
        }
    }

    /// A shard whose slots are numbered by its argument, or a whole good one.
    fn shard(&mut self, argument: u8) {
        let entries = self.take(argument % 16);
        let tsizes = sum(entries.iter().map(|entry| entry.tsize));
        let slots: BTreeMap<u8, Slot> = entries
            .into_iter()
            .enumerate()
            .map(|(i, entry)| {
                let slot = if entry.cid.codec() == CODEC_DAG_PB {
                    Slot::Shard(Link {
                        cid: entry.cid,
                        tsize: entry.tsize,
                    })
                } else {
                    Slot::Entry(entry)
                };
                (argument.wrapping_mul(i as u8 + 1), slot)
            })
            .collect();
        self.node(&Node::Shard(slots.into_iter().collect()), tsizes);
    }

    fn get(&self, cid: &Cid) -> Option<UnverifiedBlock> {
        let bytes = self.blocks.get(cid)?.clone();
        Some(UnverifiedBlock { cid: *cid, bytes })
    }
}

fn sum(tsizes: impl Iterator<Item = u64>) -> u64 {
    tsizes.fold(0, u64::saturating_add)
}

/// The root that we make of these files and objects.
fn rebuild(layout: &Layout, objects: &[Object]) -> Result<Cid, BuildError> {
    let emit = &mut |_: Block| Ok::<(), BuildError>(());
    let entry = |name: &str, link: Link| Entry {
        name: name.to_owned(),
        cid: link.cid,
        tsize: link.tsize,
    };
    let mut folders: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for object in objects {
        let (cid, tsize) = (object.cid(), u64::from(object.len));
        let folder = folders.entry(folder(&object.block)).or_default();
        folder.push(entry(&cid.to_string(), Link { cid, tsize }));
    }
    let mut s = Vec::new();
    for (name, entries) in folders {
        s.push(entry(&name, unixfs::directory(entries, emit)?));
    }
    let s = unixfs::directory(s, emit)?;
    let mut root = vec![entry("s", s)];
    let files = [
        ("RECOVER.md", Some(&layout.recover_md)),
        ("recover.sh", Some(&layout.recover_sh)),
        ("capsule.age", layout.capsule.as_ref()),
        ("manifest.age", Some(&layout.manifest)),
    ];
    for (name, bytes) in files {
        let Some(bytes) = bytes else { continue };
        // Leaves of this machine are small: a file is one.
        let leaf = (raw_cid(&sha256(bytes)), bytes.len() as u64);
        root.push(entry(name, unixfs::file(&[leaf], emit)?));
    }
    Ok(unixfs::directory(root, emit)?.cid)
}

fuzz_target!(|program: &[u8]| {
    if program.len() > 1 << 10 {
        return;
    }
    let mut machine = Machine::default();
    for step in program.chunks_exact(2) {
        machine.step(step[0], step[1]);
    }
    let Some(root) = machine.stack.last().map(|entry| entry.cid) else {
        return;
    };
    let (mut objects, mut damages) = (Vec::new(), 0);
    let summary = walk::<Infallible>(&root, &mut |cid| Ok(machine.get(cid)), &mut |visit| {
        match visit {
            Visit::Object(object) => objects.push(object),
            Visit::Damage(_) => damages += 1,
            Visit::Public { .. } => {}
        }
        Ok(())
    });
    let Ok(summary) = summary;
    assert_eq!(
        (summary.objects, summary.damages),
        (objects.len() as u64, damages)
    );
    let layout = Layout::read::<Damage>(&root, &mut |cid| Ok(machine.get(cid)));
    if damages == 0 {
        let layout = layout.expect("the walk read it too");
        assert_eq!(
            rebuild(&layout, &objects).expect("it was built before"),
            root
        );
    }
});
