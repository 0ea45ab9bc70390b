//! Recovery without this program: the constant texts that every snapshot carries.
//!
//! `recover.sh` restores a snapshot with `sh`, `age` and `zstd`; `RECOVER.md`
//! says so, and how to do it by hand. They are part of the format: a change of
//! one byte changes the root of every later snapshot, and nothing else.

use crate::block::Block;

/// Name of [`RECOVER_SH`] in a snapshot.
pub const RECOVER_SH_NAME: &str = "recover.sh";
/// Name of [`RECOVER_MD`] in a snapshot.
pub const RECOVER_MD_NAME: &str = "RECOVER.md";

/// The POSIX shell script that restores a snapshot.
pub const RECOVER_SH: &str = include_str!("../recover/recover.sh");
/// The text that says how to get the data back.
pub const RECOVER_MD: &str = include_str!("../recover/RECOVER.md");

/// The constant files of a snapshot, as blocks, in the order of their names.
#[must_use]
pub fn blocks() -> [(&'static str, Block); 2] {
    [
        (RECOVER_MD_NAME, Block::constant(RECOVER_MD)),
        (RECOVER_SH_NAME, Block::constant(RECOVER_SH)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BLOCK_SIZE_MAX;

    #[test]
    fn texts_fit_in_a_block_and_are_plain_lines() {
        for text in [RECOVER_SH, RECOVER_MD] {
            assert!(text.len() < BLOCK_SIZE_MAX);
            assert!(text.ends_with('\n'));
            assert!(!text.contains('\r'));
        }
        assert!(RECOVER_SH.starts_with("#!/bin/sh\n"));
        assert!(RECOVER_SH.is_ascii());
    }

    #[test]
    fn script_knows_the_versions_that_are_written() {
        let header = crate::manifest::HEADER.strip_prefix("souverain ");
        assert!(RECOVER_SH.contains("1:souverain)"));
        assert!(RECOVER_SH.contains(&format!("'{} ')", header.expect("its first word"))));
        assert!(RECOVER_SH.contains("'# souverain capsule 1')"));
        let largest = format!(
            "unseal \"$here/manifest.age\" {}",
            crate::manifest::MANIFEST_SIZE_MAX
        );
        assert!(RECOVER_SH.contains(&largest));
    }
}
