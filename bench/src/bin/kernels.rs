//! Times the kernels of sealing over files, each alone, on one core: `kernels FILE…`.
//!
//! One line a kernel: name, seconds, MB/s of its input. `sum` is what one core needs for all
//! of them; divided by the number of cores it bounds an export from below.

use std::{
    env,
    error::Error,
    hint::black_box,
    io::Write,
    time::{Duration, Instant},
};

use protocol::{
    cut::{Boundary, Cutter, PIECE_SIZE_MAX},
    seal::LEVEL_DEFAULT,
};

#[derive(Default)]
struct Kernel {
    time: Duration,
    bytes: u64,
}

impl Kernel {
    fn run<T>(&mut self, bytes: usize, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = black_box(work());
        self.time += start.elapsed();
        self.bytes += bytes as u64;
        out
    }
}

#[expect(clippy::print_stdout, reason = "the measurement is the output")]
fn main() -> Result<(), Box<dyn Error>> {
    let cutter = Cutter::new(&[7; 32]);
    let recipient = age::x25519::Identity::generate().to_public();
    let mut compressor = zstd::bulk::Compressor::new(LEVEL_DEFAULT)?;
    let [mut cut, mut hash, mut compress, mut encrypt, mut digest]: [Kernel; 5] =
        Default::default();
    for path in env::args().skip(1) {
        let data = std::fs::read(path)?;
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let len = {
                let start = Instant::now();
                let len = black_box(
                    cutter.first(&rest[..rest.len().min(2 * PIECE_SIZE_MAX)], Boundary::Byte),
                );
                cut.time += start.elapsed();
                cut.bytes += len as u64;
                len
            };
            let (piece, later) = rest.split_at(len);
            rest = later;
            hash.run(len, || blake3::hash(piece));
            let frame = compress.run(len, || compressor.compress(piece))?;
            let sealed = encrypt.run(frame.len(), || -> Result<_, Box<dyn Error>> {
                let recipients = std::iter::once(&recipient as &dyn age::Recipient);
                let out = Vec::with_capacity(frame.len() + 4096);
                let mut writer = age::Encryptor::with_recipients(recipients)?.wrap_output(out)?;
                writer.write_all(&frame)?;
                Ok(writer.finish()?)
            })?;
            digest.run(sealed.len(), || protocol::block::sha256(&sealed));
        }
    }
    let kernels = [
        ("cut", cut),
        ("blake3", hash),
        ("zstd", compress),
        ("age", encrypt),
        ("sha256", digest),
    ];
    let mut sum = 0.0;
    for (name, kernel) in kernels {
        let seconds = kernel.time.as_secs_f64();
        sum += seconds;
        println!(
            "{name} {seconds:.3} {:.0}",
            kernel.bytes as f64 / 1e6 / seconds
        );
    }
    println!("sum {sum:.3}");
    Ok(())
}
