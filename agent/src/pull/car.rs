//! A snapshot out of CARs that somebody sends: one of the whole, or several of what is missing.
//!
//! A CAR gives a DAG from its root down, so that every block is one that a block before it links to; anything
//! else ends it. So an answer can be no longer than the DAG.

use std::{collections::HashSet, io::Read, sync::atomic::Ordering};

use cid::Cid;
use protocol::{
    block::{Block, CODEC_DAG_PB},
    car::{CarError, Reader},
};
use store::Store;

use super::{COMMIT_COST, COMMIT_EVERY, NODES_MAX, PullError, PullReport};
use crate::{catalog, dag, handover, progress::Progress};

/// What is here of a snapshot, and what is to be asked for.
pub(crate) struct CarPull<'a> {
    store: &'a Store,
    progress: &'a Progress,
    root: Cid,
    /// DAGs that are missing, or have parts that are, the next one last.
    asks: Vec<Cid>,
    uncommitted: u64,
    report: PullReport,
}

impl<'a> CarPull<'a> {
    /// Looks what is here.
    pub(crate) fn new(
        store: &'a Store,
        root: Cid,
        progress: &'a Progress,
    ) -> Result<Self, PullError> {
        let mut asks = missing(store, root)?;
        asks.reverse();
        Ok(Self {
            store,
            progress,
            root,
            asks,
            uncommitted: 0,
            report: PullReport::default(),
        })
    }

    /// The next DAG to ask for.
    pub(crate) fn next(&mut self) -> Option<Cid> {
        self.asks.pop()
    }

    /// Takes the CAR of a DAG in, each block checked. What came is durable on return, after an error too.
    pub(crate) fn take(&mut self, dag: &Cid, input: impl Read) -> Result<(), PullError> {
        let taken = self.blocks(dag, input);
        self.store.commit()?;
        self.uncommitted = 0;
        taken
    }

    /// Lists the snapshot if all of it is here.
    pub(crate) fn finish(self, created: &str) -> Result<PullReport, PullError> {
        if let Some(cid) = missing(self.store, self.root)?.pop() {
            return Err(PullError::Missing { cid });
        }
        let root = self.root;
        match handover::list_if_whole(self.store, &root, created, self.progress)? {
            None => Ok(self.report),
            Some(reason) => Err(PullError::NotSnapshot { root, reason }),
        }
    }

    fn blocks(&mut self, dag: &Cid, input: impl Read) -> Result<(), PullError> {
        let mut reader = Reader::new(input).map_err(PullError::Car)?;
        let mut wanted: HashSet<[u8; 16]> = dag::short(dag).into_iter().collect();
        let mut nodes = HashSet::new();
        loop {
            let offset = reader.offset();
            let Some(block) = reader.next_unverified().map_err(PullError::Car)? else {
                break;
            };
            if self.progress.stop.load(Ordering::Relaxed) {
                return Err(PullError::Interrupted);
            }
            let cid = block.cid;
            let short = dag::short(&cid).filter(|short| wanted.remove(short));
            let short = short.ok_or(PullError::Unwanted { cid })?;
            let block = block
                .verify()
                .map_err(|source| PullError::Car(CarError::Block { offset, source }))?;
            if cid.codec() == CODEC_DAG_PB && nodes.insert(short) {
                if nodes.len() > NODES_MAX {
                    return Err(PullError::TooManyNodes);
                }
                let links = dag::links(&block).map_err(|cause| PullError::Node { cid, cause })?;
                if cid == self.root {
                    let total = links.iter().map(|link| link.tsize).sum();
                    self.progress.bytes_total.store(total, Ordering::Relaxed);
                }
                wanted.extend(links.iter().filter_map(|link| dag::short(&link.cid)));
            }
            self.keep(block)?;
        }
        if dag::short(dag).is_some_and(|short| wanted.contains(&short)) {
            return Err(PullError::Missing { cid: *dag });
        }
        Ok(())
    }

    fn keep(&mut self, block: Block) -> Result<(), PullError> {
        let len = block.bytes().len() as u64;
        self.progress.bytes_read.fetch_add(len, Ordering::Relaxed);
        if !self.store.put_checked(block)? {
            self.report.blocks_kept += 1;
            return Ok(());
        }
        self.report.blocks += 1;
        self.report.bytes += len;
        self.uncommitted += len + COMMIT_COST;
        if self.uncommitted >= COMMIT_EVERY {
            self.store.commit()?;
            self.uncommitted = 0;
        }
        Ok(())
    }
}

/// The roots of what is missing below `root`. A node that nothing below is here of stands for all of it.
fn missing(store: &Store, root: Cid) -> Result<Vec<Cid>, PullError> {
    let mut found = Vec::new();
    let mut nodes = HashSet::new();
    let mut todo = vec![root];
    while let Some(cid) = todo.pop() {
        if !catalog::is_sound(store, &cid)? {
            found.push(cid);
            continue;
        }
        let is_new = dag::short(&cid).is_some_and(|short| nodes.insert(short));
        if cid.codec() != CODEC_DAG_PB || !is_new {
            continue;
        }
        if nodes.len() > NODES_MAX {
            return Err(PullError::TooManyNodes);
        }
        let block = store.get(&cid)?.and_then(|block| block.verify().ok());
        let Some(block) = block else {
            found.push(cid);
            continue;
        };
        let links = dag::links(&block).map_err(|cause| PullError::Node { cid, cause })?;
        let mut here = 0;
        for link in &links {
            here += usize::from(catalog::is_sound(store, &link.cid)?);
        }
        if here == 0 && links.len() > 1 {
            found.push(cid);
            continue;
        }
        for link in links {
            if link.cid.codec() == CODEC_DAG_PB {
                todo.push(link.cid);
            } else if !catalog::is_sound(store, &link.cid)? {
                found.push(link.cid);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use protocol::{
        block::{raw_cid, sha256},
        car::Writer,
        unixfs::{BuildError, Entry, directory},
    };

    use super::*;

    fn raw(text: &str) -> Block {
        let bytes = text.as_bytes().to_vec();
        Block::verify(raw_cid(&sha256(&bytes)), bytes).expect("its own hash")
    }

    /// A directory of two directories of two files each, from the root down.
    fn dag() -> Vec<Block> {
        let mut blocks = Vec::new();
        let folder = |entries: Vec<Entry>| {
            let mut nodes = Vec::new();
            directory::<BuildError>(entries, &mut |block| {
                nodes.push(block);
                Ok(())
            })
            .expect("builds");
            nodes.remove(0)
        };
        let entry = |name: &str, block: &Block| Entry {
            name: name.into(),
            cid: *block.cid(),
            tsize: block.bytes().len() as u64,
        };
        let mut tops = Vec::new();
        for name in ["a", "b"] {
            let leaves = [raw(&format!("{name}0")), raw(&format!("{name}1"))];
            let entries = leaves.iter().enumerate();
            let node = folder(
                entries
                    .map(|(i, leaf)| entry(&i.to_string(), leaf))
                    .collect(),
            );
            tops.push(entry(name, &node));
            blocks.push(node);
            blocks.extend(leaves);
        }
        blocks.insert(0, folder(tops));
        blocks
    }

    fn car(blocks: &[&Block]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &[*blocks[0].cid()]).expect("writes");
        for block in blocks {
            writer.write(block).expect("writes");
        }
        writer.finish().expect("writes")
    }

    fn with_store(f: impl FnOnce(&Store)) {
        let home = tempfile::tempdir().expect("a directory");
        f(&Store::open(home.path(), "test").expect("opens"));
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let blocks = dag();
        let all: Vec<&Block> = blocks.iter().collect();
        let asks = |kept: &[usize]| {
            let mut asks = Vec::new();
            with_store(|store| {
                for index in kept {
                    let block = all[*index];
                    let copy = Block::verify(*block.cid(), block.bytes().to_vec());
                    store.put(copy.expect("its own hash")).expect("puts");
                }
                let found = missing(store, *all[0].cid()).expect("looks");
                let index = |cid: &Cid| all.iter().position(|block| block.cid() == cid);
                asks = found
                    .iter()
                    .map(|cid| index(cid).expect("one of them"))
                    .collect();
                asks.sort_unstable();
            });
            asks
        };
        assert_eq!(asks(&[]), [0], "the root stands for all");
        assert_eq!(asks(&[0]), [0], "and so it does when nothing below is here");
        assert_eq!(asks(&[0, 1, 2, 3]), [4]);
        assert_eq!(
            asks(&[0, 1, 2, 3, 4]),
            [4],
            "the folder stands for its files"
        );
        assert_eq!(asks(&[0, 1, 2, 4, 5]), [3, 6]);
        assert_eq!(asks(&[0, 1, 2, 3, 4, 5, 6]), [0; 0]);
    }

    #[test]
    fn what_was_not_asked_for_ends_it_and_what_came_is_kept() {
        let blocks = dag();
        let all: Vec<&Block> = blocks.iter().collect();
        let root = *all[0].cid();
        let stray = raw("stray");
        let progress = Progress::default();
        let cases: [(&str, Vec<u8>, usize); 5] = [
            ("a block of another DAG", car(&[all[0], all[1], &stray]), 2),
            (
                "a block before its parent",
                car(&[all[0], all[2], all[1]]),
                1,
            ),
            ("a block twice", car(&[all[0], all[1], all[2], all[2]]), 3),
            ("another root", car(&[all[1], all[2]]), 0),
            ("nothing", car(&[all[0]])[..59].to_vec(), 0),
        ];
        for (what, bytes, kept) in cases {
            with_store(|store| {
                let mut pull = CarPull::new(store, root, &progress).expect("looks");
                assert_eq!(pull.next(), Some(root));
                let error = pull.take(&root, &bytes[..]).expect_err(what);
                let expected = match what {
                    "nothing" => matches!(error, PullError::Missing { .. }),
                    _ => matches!(error, PullError::Unwanted { .. }),
                };
                assert!(expected, "{what}: {error}");
                let here = all
                    .iter()
                    .filter(|b| store.contains(b.cid()).expect("looks"));
                assert_eq!(here.count(), kept, "{what}");
                assert!(!store.contains(stray.cid()).expect("looks"));
            });
        }
        // A block that is damaged, or cut off, is not kept.
        let whole = car(&all);
        for change in ["damaged", "cut off"] {
            let mut bytes = whole.clone();
            match change {
                "damaged" => *bytes.last_mut().expect("not empty") ^= 1,
                _ => bytes.truncate(whole.len() - 1),
            }
            with_store(|store| {
                let mut pull = CarPull::new(store, root, &progress).expect("looks");
                let error = pull.take(&root, &bytes[..]).expect_err(change);
                assert!(matches!(error, PullError::Car(_)), "{change}: {error}");
                assert!(!store.contains(all[6].cid()).expect("looks"));
                // The next one asks for the rest.
                let mut pull = CarPull::new(store, root, &progress).expect("looks");
                assert_eq!(pull.next(), Some(*all[6].cid()));
                pull.take(all[6].cid(), &car(&[all[6]])[..]).expect("takes");
                assert_eq!(pull.next(), None);
                assert_eq!(pull.report.blocks, 1);
            });
        }
    }
}
