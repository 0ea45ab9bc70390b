//! Writes the benchmark's data: `dataset DIR SIZE_MIB [SEED]`.
//!
//! Eight tables of mixed width, as NDJSON, make seven eighths of it; random blobs the rest.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
};

use souverain_bench::{Rng, table};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, size_mib, seed @ ..] = args.as_slice() else {
        return Err("usage: dataset DIR SIZE_MIB [SEED]".into());
    };
    let seed = seed.first().map_or(Ok(1), |s| s.parse())?;
    let dir = PathBuf::from(dir);
    let eighth = (size_mib.parse::<u64>()? << 20) / 8;
    fs::create_dir_all(dir.join("blobs"))?;
    for width in 0..8 {
        let mut rng = Rng::new(seed, &format!("table {width}"));
        let mut out = BufWriter::new(File::create(dir.join(format!("table{width}.ndjson")))?);
        table(&mut rng, width, eighth * 7 / 8, &mut out)?;
        out.flush()?;
    }
    let mut rng = Rng::new(seed, "blobs");
    let (mut left, mut number) = (eighth, 0);
    while left > 0 {
        let len = (64 << 10) + rng.below(8 << 20, true);
        let mut bytes = vec![0; usize::try_from(len.min(left))?];
        rng.fill(&mut bytes);
        fs::write(dir.join("blobs").join(format!("{number:04}.bin")), &bytes)?;
        left -= bytes.len() as u64;
        number += 1;
    }
    Ok(())
}
