//! Sample data for `quickstart`: a small shop and a folder of files, the same on every run.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use rusqlite::{Connection, params};

const CUSTOMERS: u32 = 800;
const PRODUCTS: u32 = 150;
const ORDERS: u32 = 2_500;
const NOTES_PER_MONTH: u32 = 24;
const PICTURE_LEN: usize = 3 << 20;
/// 2025-01-01 00:00:00 UTC, when the shop opened.
const OPENED: u64 = 1_735_689_600;

const SCHEMA: &str = "
CREATE TABLE customers(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT UNIQUE,
  city TEXT,
  note TEXT
);
CREATE TABLE products(
  sku TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  price NUMERIC NOT NULL CHECK (price >= 0),
  weight REAL,
  picture BLOB
) WITHOUT ROWID;
CREATE TABLE orders(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  customer INTEGER NOT NULL REFERENCES customers(id),
  placed TEXT NOT NULL,
  shipped TEXT
);
CREATE TABLE order_lines(
  \"order\" INTEGER NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
  line INTEGER NOT NULL,
  sku TEXT NOT NULL REFERENCES products(sku),
  quantity INTEGER NOT NULL,
  price NUMERIC NOT NULL,
  total NUMERIC AS (quantity * price) STORED,
  PRIMARY KEY (\"order\", line)
);
CREATE TABLE journal(what TEXT, id INTEGER);
CREATE INDEX orders_open ON orders(customer) WHERE shipped IS NULL;
CREATE INDEX customers_city ON customers(city COLLATE NOCASE, name);
CREATE VIEW sales AS
  SELECT o.id, c.name, sum(l.total) AS total
  FROM orders o JOIN customers c ON c.id = o.customer JOIN order_lines l ON l.\"order\" = o.id
  GROUP BY o.id;
CREATE TRIGGER order_shipped AFTER UPDATE OF shipped ON orders BEGIN
  INSERT INTO journal VALUES('shipped', new.id);
END;
";

const FIRST: [&str; 12] = [
    "Åsa",
    "Bjørn",
    "Chloé",
    "Dāvis",
    "Ελένη",
    "Фёдор",
    "Gül",
    "花子",
    "Íñigo",
    "José",
    "Kaja",
    "Léo",
];
const LAST: [&str; 10] = [
    "O'Neill",
    "Müller",
    "Nowak",
    "Þórsson",
    "García",
    "van der Berg",
    "山田",
    "Őri",
    "Smith",
    "D’Amico",
];
const CITIES: [&str; 6] = ["Kraków", "Tromsø", "Αθήνα", "Lyon", "São Paulo", "Göteborg"];
const GOODS: [&str; 8] = [
    "Tea",
    "Kettle",
    "Cup",
    "Spoon",
    "Sugar 🍬",
    "Tray",
    "Tin",
    "Sieve",
];

/// Where the sample data was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The database of the shop, a SQLite file.
    pub shop: PathBuf,
    /// The folder of files.
    pub files: PathBuf,
}

/// Writes `shop.sqlite` and `files/` into `dir`, where neither is yet.
///
/// # Errors
/// Something is there already, or cannot be written.
pub fn write(dir: &Path) -> io::Result<Sample> {
    let sample = Sample {
        shop: dir.join("shop.sqlite"),
        files: dir.join("files"),
    };
    File::create_new(&sample.shop)?;
    write_shop(&sample.shop).map_err(io::Error::other)?;
    fs::create_dir(&sample.files)?;
    write_files(&sample.files)?;
    Ok(sample)
}

fn write_shop(path: &Path) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(SCHEMA)?;
    let shop = connection.transaction()?;
    let mut dice = Dice::new("shop");
    fill_customers(&shop, &mut dice)?;
    fill_products(&shop, &mut dice)?;
    fill_orders(&shop, &mut dice)?;
    shop.commit()?;
    connection.close().map_err(|(_, error)| error)
}

fn fill_customers(shop: &Connection, dice: &mut Dice) -> rusqlite::Result<()> {
    let mut insert = shop.prepare("INSERT INTO customers VALUES(?1, ?2, ?3, ?4, ?5)")?;
    for id in 1..=CUSTOMERS {
        let name = format!("{} {}", dice.pick(&FIRST), dice.pick(&LAST));
        let email = (dice.roll(10) > 0).then(|| format!("customer{id}@example.org"));
        let city = (dice.roll(8) > 0).then(|| dice.pick(&CITIES));
        let note = match dice.roll(12) {
            0 => Some("rings twice;\nsays \"hello\"\tand 'bye'"),
            1 => Some(""),
            _ => None,
        };
        insert.execute(params![id, name, email, city, note])?;
    }
    Ok(())
}

fn fill_products(shop: &Connection, dice: &mut Dice) -> rusqlite::Result<()> {
    let mut insert = shop.prepare("INSERT INTO products VALUES(?1, ?2, ?3, ?4, ?5)")?;
    for number in 0..PRODUCTS {
        let name = format!("{} No. {number}", dice.pick(&GOODS));
        let price = f64::from(100 + dice.roll(9_900)) / 100.0;
        let weight = (dice.roll(5) > 0).then(|| f64::from(dice.roll(5_000)) / 1_000.0);
        let picture = (dice.roll(3) == 0).then(|| {
            let len = 200 + dice.roll(3_000) as usize;
            dice.bytes(len)
        });
        insert.execute(params![sku(number), name, price, weight, picture])?;
    }
    Ok(())
}

fn fill_orders(shop: &Connection, dice: &mut Dice) -> rusqlite::Result<()> {
    let mut order = shop.prepare("INSERT INTO orders(customer, placed) VALUES(?1, ?2)")?;
    let mut line = shop.prepare(
        "INSERT INTO order_lines(\"order\", line, sku, quantity, price)
         SELECT ?1, ?2, sku, ?3, price FROM products WHERE sku = ?4",
    )?;
    let mut ship = shop.prepare("UPDATE orders SET shipped = ?2 WHERE id = ?1")?;
    for id in 1..=ORDERS {
        let day = id * 360 / ORDERS;
        let date = |day: u32| format!("2025-{:02}-{:02}", 1 + day / 30 % 12, 1 + day % 28);
        order.execute(params![1 + dice.roll(CUSTOMERS), date(day)])?;
        for number in 1..=1 + dice.roll(5) {
            let sku = sku(dice.roll(PRODUCTS));
            line.execute(params![id, number, 1 + dice.roll(4), sku])?;
        }
        if dice.roll(6) > 0 {
            ship.execute(params![id, date(day + 1)])?;
        }
    }
    Ok(())
}

fn sku(number: u32) -> String {
    format!("SKU-{number:04}")
}

fn write_files(root: &Path) -> io::Result<()> {
    let mut dice = Dice::new("files");
    let mut age = 0;
    let mut file = |path: &str, content: &[u8]| -> io::Result<()> {
        let mut file = File::create_new(root.join(path))?;
        file.write_all(content)?;
        age += 3_601;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(OPENED + age))
    };
    for month in 1..=12 {
        let folder = format!("notes/2025-{month:02}");
        fs::create_dir_all(root.join(&folder))?;
        for note in 1..=NOTES_PER_MONTH {
            let author = dice.pick(&FIRST);
            let text = format!(
                "{} met {author} in {}.\n",
                dice.pick(&LAST),
                dice.pick(&CITIES)
            );
            let text = text.repeat(1 + dice.roll(60) as usize);
            file(&format!("{folder}/{note:02} {author}.txt"), text.as_bytes())?;
        }
    }
    fs::create_dir_all(root.join("photos/raw"))?;
    file("photos/raw/harbour.bin", &dice.bytes(PICTURE_LEN))?;
    file("contract.txt", "Two copies, one content.\n".as_bytes())?;
    file("empty", b"")?;
    file("open.sh", b"#!/bin/sh\necho open\n")?;
    fs::set_permissions(root.join("open.sh"), Permissions::from_mode(0o755))?;
    fs::hard_link(root.join("contract.txt"), root.join("contract (copy).txt"))?;
    symlink("notes/2025-12", root.join("latest"))?;
    fs::create_dir(root.join("inbox"))
}

/// Numbers that look random, and are the same on every run.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(name: &str) -> Self {
        let seed = blake3::Hasher::new_derive_key("souverain 1 sample data");
        Self(seed.clone().update(name.as_bytes()).finalize_xof())
    }

    /// A number below `sides`.
    fn roll(&mut self, sides: u32) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes) % sides
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let sides = u32::try_from(choices.len()).expect("a short list");
        choices[self.roll(sides) as usize]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sqlite::content_hash;

    #[test]
    fn is_the_same_on_every_run() {
        let directories = [tempfile::tempdir(), tempfile::tempdir()];
        let samples = directories.each_ref().map(|dir| {
            write(dir.as_ref().expect("a directory").path()).expect("an empty directory")
        });
        let hashes = samples
            .each_ref()
            .map(|s| content_hash(&s.shop).expect("a database"));
        assert_eq!(hashes[0], hashes[1]);
        let photos = samples
            .each_ref()
            .map(|s| fs::read(s.files.join("photos/raw/harbour.bin")));
        let [one, other] = photos.map(|photo| photo.expect("readable"));
        assert_eq!(one.len(), PICTURE_LEN);
        assert!(one == other);
        let notes = fs::read_dir(samples[0].files.join("notes/2025-07")).expect("a folder");
        assert_eq!(notes.count(), NOTES_PER_MONTH as usize);
        let shop = Connection::open(&samples[0].shop).expect("a database");
        let rows: u32 = shop
            .query_row("SELECT count(*) FROM sales", [], |row| row.get(0))
            .expect("a view");
        assert_eq!(rows, ORDERS);
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("shop.sqlite"), "mine").expect("written");
        assert!(write(directory.path()).is_err());
        let kept = fs::read(directory.path().join("shop.sqlite")).expect("readable");
        assert_eq!(kept, b"mine");
    }
}
