//! Names of users and groups, as the files in `/etc` have them.

use std::{collections::HashMap, fs, io::Read, path::Path};

const FILE_SIZE_MAX: u64 = 16 << 20;

/// The users and groups of this machine.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    users: Names,
    groups: Names,
}

#[derive(Debug, Default)]
struct Names {
    by_id: HashMap<u32, String>,
    by_name: HashMap<String, u32>,
}

impl Owners {
    /// Reads `/etc/passwd` and `/etc/group`; what cannot be read has no names.
    pub(crate) fn of_this_machine() -> Self {
        Self {
            users: Names::read(Path::new("/etc/passwd")),
            groups: Names::read(Path::new("/etc/group")),
        }
    }

    pub(crate) fn user(&self, id: u32) -> &str {
        self.users.name(id)
    }

    pub(crate) fn group(&self, id: u32) -> &str {
        self.groups.name(id)
    }

    /// The id of the user of that name, else `id`.
    pub(crate) fn user_id(&self, name: &[u8], id: u32) -> u32 {
        self.users.id(name, id)
    }

    /// The id of the group of that name, else `id`.
    pub(crate) fn group_id(&self, name: &[u8], id: u32) -> u32 {
        self.groups.id(name, id)
    }
}

impl Names {
    fn read(path: &Path) -> Self {
        let mut text = Vec::new();
        // A machine without these files has numbers only.
        if let Ok(file) = fs::File::open(path) {
            let _ = file.take(FILE_SIZE_MAX).read_to_end(&mut text);
        }
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Self {
        let mut names = Self::default();
        for line in text.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else {
                continue;
            };
            // 31 bytes is what a tar header has room for.
            if let (Ok(id), 1..=31) = (id.parse(), name.len()) {
                names.by_id.entry(id).or_insert_with(|| name.to_owned());
                names.by_name.entry(name.to_owned()).or_insert(id);
            }
        }
        names
    }

    fn name(&self, id: u32) -> &str {
        self.by_id.get(&id).map_or("", String::as_str)
    }

    fn id(&self, name: &[u8], id: u32) -> u32 {
        let name = std::str::from_utf8(name).ok();
        name.and_then(|name| self.by_name.get(name))
            .copied()
            .unwrap_or(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_both_ways() {
        let names =
            Names::parse("root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/:/\n+\nbad:x:y:\n");
        assert_eq!(names.name(1000), "me");
        assert_eq!(names.name(7), "");
        assert_eq!(names.id(b"me", 5), 1000);
        assert_eq!(names.id(b"you", 5), 5);
        assert_eq!(names.id(b"\xff", 5), 5);
    }
}
