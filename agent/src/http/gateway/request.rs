//! What is asked of the gateway: a path, a query and an `Accept` header, or why not.

use cid::Cid;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

pub use super::super::answers::Refusal;
use super::super::limits::{MEDIA_RANGES_MAX, PATH_NAMES_MAX, TARGET_LEN_MAX};

/// Media type of a block.
pub const MEDIA_RAW: &str = "application/vnd.ipld.raw";
/// Media type of a CAR.
pub const MEDIA_CAR: &str = "application/vnd.ipld.car";
/// What the paths of the gateway begin with.
pub const PREFIX: &str = "/ipfs/";

/// What of a name is written as `%XX`.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The bytes of a block.
    Raw(Cid),
    /// Blocks as a CAR.
    Car(CarAsk),
}

/// Blocks that are asked for as a CAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarAsk {
    /// Where the path begins.
    pub root: Cid,
    /// Names of directory entries, from there on.
    pub path: Vec<String>,
    /// Which blocks at the end of the path.
    pub scope: Scope,
}

/// Which blocks at the end of a path are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The one block.
    Block,
    /// All blocks of a directory or file, or of a part of a file.
    Entity(Option<ByteRange>),
    /// Everything below.
    All,
}

/// A part of a file. Negative numbers count from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Its first byte.
    pub from: i64,
    /// Its last byte, or none for the end of the file.
    pub to: Option<i64>,
}

impl Ask {
    /// Understands a request: its path and query as they were sent, and its `Accept` headers.
    ///
    /// # Errors
    /// It asks for what this gateway does not serve, or for nothing that can be understood.
    pub fn parse(path: &str, query: Option<&str>, accept: &[&str]) -> Result<Self, Refusal> {
        let query = query.unwrap_or_default();
        if path.len() + query.len() > TARGET_LEN_MAX {
            return Err(Refusal {
                status: 414,
                reason: "the path and query are too long",
            });
        }
        let path = path.strip_prefix(PREFIX).ok_or(Refusal::NOT_FOUND)?;
        let (root, path) = path.split_once('/').unwrap_or((path, ""));
        let root = Cid::try_from(root).map_err(|_| Refusal::bad("not a CID"))?;
        let path = names(path)?;
        let query = Query::parse(query)?;
        let is_raw = is_raw(&query, accept)?;
        if !is_raw {
            let scope = query.scope()?;
            return Ok(Self::Car(CarAsk { root, path, scope }));
        }
        if !path.is_empty() {
            return Err(Refusal::bad(
                "a block is asked for by its CID alone; use format=car for a path",
            ));
        }
        Ok(Self::Raw(root))
    }

    /// The path and query that ask for the same, always in the same way.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Raw(cid) => format!("{PREFIX}{cid}?format=raw"),
            Self::Car(ask) => {
                let mut target = format!("{PREFIX}{}", ask.root);
                for name in &ask.path {
                    target.push('/');
                    target.extend(utf8_percent_encode(name, ESCAPED));
                }
                target.push_str("?format=car&dag-scope=");
                target.push_str(ask.scope.name());
                if let Scope::Entity(Some(range)) = ask.scope {
                    let to = range.to.map_or("*".to_owned(), |to| to.to_string());
                    target.push_str(&format!("&entity-bytes={}:{to}", range.from));
                }
                target.push_str("&car-version=1&car-order=dfs&car-dups=n");
                target
            }
        }
    }
}

impl Scope {
    /// What `dag-scope` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Entity(_) => "entity",
            Self::All => "all",
        }
    }
}

impl ByteRange {
    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once(':')?;
        let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n != i64::MIN);
        let range = Self {
            from: number(from)?,
            to: match to {
                "*" => None,
                to => Some(number(to)?),
            },
        };
        let backwards = |to: i64| (to < 0) == (range.from < 0) && to < range.from;
        (!range.to.is_some_and(backwards)).then_some(range)
    }

    /// The first and the last byte in a file of this length; nothing if none of it is in the file.
    #[must_use]
    pub fn within(&self, len: u64) -> Option<(u64, u64)> {
        let at = |n: i64| {
            if n < 0 {
                len.checked_sub(n.unsigned_abs())
            } else {
                Some(n.unsigned_abs())
            }
        };
        let from = at(self.from).unwrap_or(0);
        let last = len.checked_sub(1)?;
        let to = self.to.map_or(Some(last), at)?.min(last);
        (from <= to).then_some((from, to))
    }
}

/// The names of a path.
fn names(path: &str) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if names.len() == PATH_NAMES_MAX {
            return Err(Refusal::bad("the path has too many names"));
        }
        let name = percent_decode_str(name)
            .decode_utf8()
            .map_err(|_| Refusal::bad("a name of the path is not UTF-8"))?;
        if matches!(&*name, "" | "." | "..") || name.contains(['/', '\0']) {
            return Err(Refusal::bad("a name of the path is none of an entry"));
        }
        names.push(name.into_owned());
    }
    Ok(names)
}

/// The parameters of a query that mean something here.
#[derive(Debug, Default)]
struct Query {
    format: Option<String>,
    scope: Option<String>,
    bytes: Option<String>,
    version: Option<String>,
    order: Option<String>,
    dups: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for parameter in text.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let slot = match name {
                "format" => &mut query.format,
                "dag-scope" => &mut query.scope,
                "entity-bytes" => &mut query.bytes,
                "car-version" => &mut query.version,
                "car-order" => &mut query.order,
                "car-dups" => &mut query.dups,
                // Others are for gateways that do more.
                _ => continue,
            };
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| Refusal::bad("a parameter is not UTF-8"))?;
            if slot.replace(value.into_owned()).is_some() {
                return Err(Refusal::bad("a parameter is there twice"));
            }
        }
        Ok(query)
    }

    fn scope(&self) -> Result<Scope, Refusal> {
        let range = self.bytes.as_deref().map(|text| {
            ByteRange::parse(text).ok_or(Refusal::bad("entity-bytes is FROM:TO or FROM:*"))
        });
        let range = range.transpose()?;
        match (self.scope.as_deref(), range) {
            (None | Some("entity"), Some(range)) => Ok(Scope::Entity(Some(range))),
            (_, Some(_)) => Err(Refusal::bad("entity-bytes is for dag-scope=entity")),
            (None | Some("all"), None) => Ok(Scope::All),
            (Some("entity"), None) => Ok(Scope::Entity(None)),
            (Some("block"), None) => Ok(Scope::Block),
            (Some(_), None) => Err(Refusal::bad("dag-scope is block, entity or all")),
        }
    }

    /// Whether the CARs of this gateway are as the query says.
    fn suits(&self) -> Result<(), Refusal> {
        let car = CarForm {
            version: self.version.as_deref(),
            order: self.order.as_deref(),
            dups: self.dups.as_deref(),
        };
        car.is_served().then_some(()).ok_or(Refusal::bad(
            "CARs here have car-version=1, car-order=dfs, car-dups=n",
        ))
    }
}

/// Which form of CAR is wanted, where that is said.
#[derive(Clone, Copy, Debug, Default)]
struct CarForm<'a> {
    version: Option<&'a str>,
    order: Option<&'a str>,
    dups: Option<&'a str>,
}

impl CarForm<'_> {
    fn is_served(&self) -> bool {
        matches!(self.version, None | Some("" | "1"))
            && matches!(self.order, None | Some("" | "dfs" | "unk"))
            && matches!(self.dups, None | Some("" | "n"))
    }
}

/// A media range of an `Accept` header.
#[derive(Debug)]
struct MediaRange<'a> {
    media: String,
    car: CarForm<'a>,
    /// In thousandths.
    weight: u16,
}

impl<'a> MediaRange<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self {
            media: parts.next().unwrap_or_default().to_ascii_lowercase(),
            car: CarForm::default(),
            weight: 1000,
        };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => range.car.version = Some(value),
                "order" => range.car.order = Some(value),
                "dups" => range.car.dups = Some(value),
                "q" => range.weight = weight(value),
                _ => {}
            }
        }
        range
    }

    /// Whether a block suits it, or a CAR does; nothing if neither.
    fn is_raw(&self, query: &Query) -> Option<bool> {
        match self.media.as_str() {
            MEDIA_RAW => Some(true),
            MEDIA_CAR => self.suits(query).then_some(false),
            _ => None,
        }
    }

    /// Whether the CARs of this gateway suit it, but for what the query says.
    fn suits(&self, query: &Query) -> bool {
        let unless = |by_query: &Option<String>, value| by_query.is_none().then_some(value)?;
        let car = CarForm {
            version: unless(&query.version, self.car.version),
            order: unless(&query.order, self.car.order),
            dups: unless(&query.dups, self.car.dups),
        };
        car.is_served()
    }
}

/// The weight of a media range in thousandths; 0, which is "not at all", if it is malformed.
fn weight(text: &str) -> u16 {
    match text.parse::<f32>() {
        Ok(number) if (0.0..=1.0).contains(&number) => (number * 1000.0) as u16,
        _ => 0,
    }
}

/// Whether a block is asked for, and not a CAR.
fn is_raw(query: &Query, accept: &[&str]) -> Result<bool, Refusal> {
    const OTHER_CAR: Refusal =
        Refusal::not_acceptable("CARs here have version=1, order=dfs, dups=n");
    let ranges: Vec<MediaRange<'_>> = accept
        .iter()
        .flat_map(|value| value.split(','))
        .filter(|range| !range.trim().is_empty())
        .take(MEDIA_RANGES_MAX)
        .map(MediaRange::parse)
        .filter(|range| range.weight > 0)
        .collect();
    let cars = || ranges.iter().filter(|range| range.media == MEDIA_CAR);
    match query.format.as_deref() {
        Some("raw") => return Ok(true),
        Some("car") => {
            query.suits()?;
            let refused = cars().count() > 0 && !cars().any(|range| range.suits(query));
            return if refused { Err(OTHER_CAR) } else { Ok(false) };
        }
        Some(_) => {
            return Err(Refusal::not_acceptable(
                "only what can be verified is served: format=raw or format=car",
            ));
        }
        None => {}
    }
    if ranges.is_empty() {
        return Err(Refusal::bad("say format=raw or format=car"));
    }
    let mut best: Option<(u16, bool)> = None;
    for range in &ranges {
        if let Some(is_raw) = range.is_raw(query)
            && best.is_none_or(|(weight, _)| range.weight > weight)
        {
            best = Some((range.weight, is_raw));
        }
    }
    match best {
        Some((_, true)) => Ok(true),
        Some((_, false)) => query.suits().map(|()| false),
        None if cars().count() > 0 => Err(OTHER_CAR),
        None => Err(Refusal::not_acceptable(
            "only what can be verified is served: application/vnd.ipld.raw or application/vnd.ipld.car",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

    fn ask(path: &str, query: &str, accept: &[&str]) -> Result<Ask, u16> {
        let query = (!query.is_empty()).then_some(query);
        Ask::parse(&format!("/ipfs/{CID}{path}"), query, accept).map_err(|refusal| refusal.status)
    }

    fn car(path: &[&str], scope: Scope) -> Result<Ask, u16> {
        Ok(Ask::Car(CarAsk {
            root: CID.parse().expect("a CID"),
            path: path.iter().map(|&name| name.to_owned()).collect(),
            scope,
        }))
    }

    #[test]
    fn the_format_is_what_the_query_says_or_the_header_wants_most() {
        let raw = Ok(Ask::Raw(CID.parse().expect("a CID")));
        let all = car(&[], Scope::All);
        let cases: &[(&str, &[&str], &Result<Ask, u16>)] = &[
            ("format=raw", &[], &raw),
            ("format=car", &[], &all),
            ("format=car", &[MEDIA_RAW], &all),
            ("format=raw", &["text/html"], &raw),
            ("", &[MEDIA_RAW], &raw),
            ("", &[MEDIA_CAR], &all),
            ("filename=x&download=true", &[MEDIA_CAR], &all),
            ("", &["Application/Vnd.Ipld.Raw"], &raw),
            (
                "",
                &["application/vnd.ipld.car; version=1; order=dfs; dups=n"],
                &all,
            ),
            ("", &["application/vnd.ipld.car;order=unk;x=y"], &all),
            ("", &["application/vnd.ipld.car;version=\"1\""], &all),
            ("", &["text/html, application/vnd.ipld.raw;q=0.5"], &raw),
            ("", &["application/vnd.ipld.raw;q=0.5", MEDIA_CAR], &all),
            (
                "",
                &["application/vnd.ipld.car;order=foo, application/vnd.ipld.car;order=dfs;q=0.5"],
                &all,
            ),
            (
                "format=car&car-dups=n",
                &["application/vnd.ipld.car;dups=y"],
                &all,
            ),
            ("", &[], &Err(400)),
            ("", &["text/html"], &Err(406)),
            ("", &["*/*"], &Err(406)),
            ("", &["application/vnd.ipld.raw;q=0"], &Err(400)),
            ("", &["application/vnd.ipfs.ipns-record"], &Err(406)),
            ("", &["application/vnd.ipld.car;version=2"], &Err(406)),
            ("", &["application/vnd.ipld.car;order=foo"], &Err(406)),
            ("", &["application/vnd.ipld.car;dups=y"], &Err(406)),
            (
                "format=car",
                &["application/vnd.ipld.car;dups=y"],
                &Err(406),
            ),
            ("format=tar", &[MEDIA_RAW], &Err(406)),
            ("format=ipns-record", &[], &Err(406)),
            ("format=", &[MEDIA_RAW], &Err(406)),
            ("format=car&car-version=2", &[], &Err(400)),
            ("format=car&car-order=foo", &[], &Err(400)),
            ("format=car&car-dups=y", &[MEDIA_CAR], &Err(400)),
            ("car-dups=y", &[MEDIA_CAR], &Err(400)),
            ("format=raw&format=car", &[], &Err(400)),
            ("format=%ff", &[], &Err(400)),
        ];
        for (query, accept, expected) in cases {
            assert_eq!(&&ask("", query, accept), expected, "{query} {accept:?}");
        }
    }

    #[test]
    fn the_scope_and_the_path_are_for_cars() {
        let range = |from, to| Scope::Entity(Some(ByteRange { from, to }));
        let cases: &[(&str, &str, Result<Ask, u16>)] = &[
            ("/a/b", "", car(&["a", "b"], Scope::All)),
            ("//a//b/", "", car(&["a", "b"], Scope::All)),
            ("/a%20b%C3%A9", "", car(&["a bé"], Scope::All)),
            ("", "dag-scope=block", car(&[], Scope::Block)),
            ("", "dag-scope=entity", car(&[], Scope::Entity(None))),
            ("", "entity-bytes=0:*", car(&[], range(0, None))),
            (
                "",
                "entity-bytes=-9:*&dag-scope=entity",
                car(&[], range(-9, None)),
            ),
            (
                "",
                "entity-bytes=499:-1000",
                car(&[], range(499, Some(-1000))),
            ),
            ("", "entity-bytes=5%3A9", car(&[], range(5, Some(9)))),
            ("", "dag-scope=everything", Err(400)),
            ("", "entity-bytes=9:5", Err(400)),
            ("", "entity-bytes=-5:-9", Err(400)),
            ("", "entity-bytes=:", Err(400)),
            ("", "entity-bytes=0", Err(400)),
            ("", "entity-bytes=*:0", Err(400)),
            ("", "entity-bytes=0:99999999999999999999", Err(400)),
            ("", "entity-bytes=0:1&dag-scope=all", Err(400)),
            ("/..", "", Err(400)),
            ("/a%2Fb", "", Err(400)),
            ("/a%00", "", Err(400)),
            ("/%ff", "", Err(400)),
        ];
        for (path, query, expected) in cases {
            let query = format!("format=car&{query}");
            assert_eq!(&ask(path, &query, &[]), expected, "{path} {query}");
        }
        assert_eq!(ask("/a", "format=raw", &[]), Err(400));
        assert_eq!(ask(&"/a".repeat(33), "format=car", &[]), Err(400));
        assert_eq!(ask(&"/a".repeat(3000), "format=car", &[]), Err(414));
        let of = |path| Ask::parse(path, Some("format=raw"), &[]).map_err(|r| r.status);
        assert_eq!(of("/ipfs/"), Err(400));
        assert_eq!(of("/ipfs/nonsense"), Err(400));
        assert_eq!(of("/other"), Err(404));
    }

    #[test]
    fn what_is_asked_is_told_in_one_way() {
        let asked = ask("/a%2520 b/%3F", "format=car&entity-bytes=-9:*", &[]).expect("understood");
        let target = asked.target();
        assert_eq!(
            target,
            format!(
                "/ipfs/{CID}/a%2520%20b/%3F?format=car&dag-scope=entity&entity-bytes=-9:*\
                 &car-version=1&car-order=dfs&car-dups=n"
            )
        );
        let (path, query) = target.split_once('?').expect("a query");
        assert_eq!(Ask::parse(path, Some(query), &[]), Ok(asked));
    }

    #[test]
    fn ranges_are_cut_to_the_file() {
        let within = |from, to, len| ByteRange { from, to }.within(len);
        assert_eq!(within(0, None, 10), Some((0, 9)));
        assert_eq!(within(3, Some(5), 10), Some((3, 5)));
        assert_eq!(within(3, Some(50), 10), Some((3, 9)));
        assert_eq!(within(-4, None, 10), Some((6, 9)));
        assert_eq!(within(-40, None, 10), Some((0, 9)));
        assert_eq!(within(2, Some(-3), 10), Some((2, 7)));
        assert_eq!(within(10, None, 10), None);
        assert_eq!(within(9, Some(-3), 10), None);
        assert_eq!(within(-40, Some(-20), 10), None);
        assert_eq!(within(0, None, 0), None);
        assert_eq!(
            within(i64::MAX, Some(i64::MAX), u64::MAX),
            Some((i64::MAX as u64, i64::MAX as u64))
        );
    }
}
