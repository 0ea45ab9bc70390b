//! CARv1 and CARv2: what is read is written to something that reads the same.
#![no_main]

use cid::Cid;
use libfuzzer_sys::fuzz_target;
use souverain_protocol::{
    block::UnverifiedBlock,
    car::{CarError, Reader, header_bytes, section_bytes},
};

type Content = (u64, Vec<Cid>, Vec<UnverifiedBlock>);

fn read(bytes: &[u8]) -> Result<Content, CarError> {
    let mut reader = Reader::new(bytes)?;
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_unverified()? {
        blocks.push(block);
    }
    assert!(reader.offset() <= bytes.len() as u64);
    Ok((reader.version(), reader.roots().to_vec(), blocks))
}

fuzz_target!(|bytes: &[u8]| {
    let Ok((version, roots, blocks)) = read(bytes) else {
        return;
    };
    let mut again = header_bytes(&roots);
    for block in &blocks {
        again.extend(section_bytes(&block.cid, block.bytes.len()));
        again.extend_from_slice(&block.bytes);
    }
    if version == 1 && bytes.starts_with(&header_bytes(&roots)) {
        assert_eq!(again, bytes);
    }
    let (_, roots_again, blocks_again) = read(&again).expect("just written");
    assert_eq!((roots_again, blocks_again), (roots, blocks));
});
