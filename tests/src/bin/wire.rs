//! A wire between network namespaces: see [`souverain_tests::wire`].

use std::{io, process::ExitCode};

fn main() -> ExitCode {
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    match souverain_tests::wire::serve(std::env::args().skip(1), input, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            souverain_tests::program::note(format_args!("wire: {error}"));
            ExitCode::FAILURE
        }
    }
}
