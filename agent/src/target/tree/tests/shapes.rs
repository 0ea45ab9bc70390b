//! Trees of any shape.

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Shape {
    File {
        size: usize,
        mode: u32,
    },
    Holes {
        runs: Vec<(u32, u16)>,
        size: u32,
    },
    Directory {
        mode: u32,
        inside: Vec<(Vec<u8>, Shape)>,
    },
    Symlink(Vec<u8>),
    Hard,
    Fifo,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => b'a'..=b'd', 1 => 1..=255u8];
    let short = vec(byte, 1..6);
    let long = (95..256usize).prop_map(|len| vec![b'l'; len]);
    prop_oneof![8 => short, 1 => long].prop_filter("a name", |name: &Vec<u8>| {
        !name.contains(&b'/') && name != b"." && name != b".."
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let size = prop_oneof![
        0..2000usize,
        Just(512),
        Just((1 << 20) - 1),
        Just((1 << 20) + 1)
    ];
    let leaf = prop_oneof![
        6 => (size, 0..0o10000u32).prop_map(|(size, mode)| Shape::File { size, mode }),
        1 => (vec((0..1u32 << 22, any::<u16>()), 0..40), 0..1u32 << 22)
            .prop_map(|(runs, size)| Shape::Holes { runs, size }),
        2 => vec(1..=255u8, 1..200).prop_map(Shape::Symlink),
        1 => Just(Shape::Hard),
        1 => Just(Shape::Fifo),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        (0..0o10000u32, vec((name(), inner), 0..8))
            .prop_map(|(mode, inside)| Shape::Directory { mode, inside })
    })
}

fn make(at: &Path, shape: &Shape, files: &mut Vec<PathBuf>) {
    match shape {
        Shape::File { size, mode } => {
            fs::write(at, noise(*size, 5)).expect("file");
            files.push(at.to_owned());
            fs::set_permissions(at, fs::Permissions::from_mode(mode | 0o400)).expect("mode");
        }
        Shape::Holes { runs, size } => {
            let file = fs::File::create(at).expect("file");
            for &(offset, len) in runs {
                let bytes = noise(len.into(), 6);
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, offset.into())
                    .expect("written");
            }
            let len = file.metadata().expect("open").len();
            file.set_len(len.max((*size).into())).expect("size");
        }
        Shape::Directory { mode, inside } => {
            fs::create_dir(at).expect("dir");
            for (name, shape) in inside {
                let path = at.join(OsStr::from_bytes(name));
                if fs::symlink_metadata(&path).is_err() {
                    make(&path, shape, files);
                }
            }
            fs::set_permissions(at, fs::Permissions::from_mode(mode | 0o700)).expect("mode");
        }
        Shape::Symlink(target) => symlink(OsStr::from_bytes(target), at).expect("symlink"),
        Shape::Hard => match files.last() {
            Some(file) => fs::hard_link(file, at).expect("link"),
            None => fs::write(at, b"nothing to link to").expect("file"),
        },
        Shape::Fifo => {
            rustix::fs::mkfifoat(rustix::fs::CWD, at, rustix::fs::Mode::RUSR).expect("fifo");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_round_trips(inside in vec((name(), shape()), 0..10)) {
        let dir = tempfile::tempdir().expect("temp");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        make(&from, &Shape::Directory { mode: 0o750, inside }, &mut Vec::new());
        let tar = export(&from, settled()).tar;
        let report = import(&tar, &to, Existing::Refuse).expect("restored");
        prop_assert_eq!(report.skipped, Vec::<String>::new());
        pretty_assert(&facts(&from), &facts(&to));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        inside in vec((name(), shape()), 1..3),
        flips in vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..20),
        gap in proptest::option::of(0..9000u64),
    ) {
        let dir = tempfile::tempdir().expect("temp");
        let from = dir.path().join("from");
        make(&from, &Shape::Directory { mode: 0o750, inside }, &mut Vec::new());
        let mut tar = export(&from, settled()).tar;
        tar.truncate(64 << 10);
        for (index, byte, mend) in flips {
            let at = index.index(tar.len());
            tar[at] = byte;
            // A checksum that fits lets the lie through to what comes after it.
            if mend && let Some(block) = tar.as_chunks_mut::<512>().0.get_mut(at / 512) {
                let mut header = tar::Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        let gaps: Vec<Range<u64>> = gap.into_iter().map(|at| at..at + 700).collect();
        let _refused_or_not = scan(&tar, &gaps);
    }
}
