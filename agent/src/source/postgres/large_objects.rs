//! Large objects, as statements of one line each that make them again under the same numbers.

use std::fmt::Write as _;

use ::postgres::Client;

use super::failed;
use crate::{
    intake::{Intake, StreamDecl},
    postgres::{failure::Failure, name::literal},
    source::SourceError,
};

/// Bytes of an object in one statement.
const CHUNK_SIZE: i32 = 128 << 10;

/// Writes the stream of all large objects, if there are any.
pub(super) fn read(
    client: &mut Client,
    decl: StreamDecl,
    intake: &Intake,
) -> Result<(), SourceError> {
    let list = "SELECT oid, obj_description(oid, 'pg_largeobject') FROM pg_largeobject_metadata ORDER BY oid";
    let cannot =
        |error: ::postgres::Error| failed("cannot read the large objects")(Failure::from(error));
    let objects = client.query(list, &[]).map_err(cannot)?;
    if objects.is_empty() {
        return Ok(());
    }
    let mut writer = intake.stream(decl);
    for row in objects {
        let oid: u32 = row.try_get(0).map_err(cannot)?;
        let comment: Option<String> = row.try_get(1).map_err(cannot)?;
        writer.write(format!("SELECT pg_catalog.lo_create({oid});\n").as_bytes())?;
        let mut offset = 0i64;
        loop {
            let chunk: Vec<u8> = client
                .query_one("SELECT lo_get($1, $2, $3)", &[&oid, &offset, &CHUNK_SIZE])
                .and_then(|row| row.try_get(0))
                .map_err(cannot)?;
            if chunk.is_empty() {
                break;
            }
            let mut line = format!("SELECT pg_catalog.lo_put({oid}, {offset}, '\\x");
            for byte in &chunk {
                write!(line, "{byte:02x}").expect("writing to a string");
            }
            line.push_str("');\n");
            writer.write(line.as_bytes())?;
            offset += i64::from(CHUNK_SIZE);
        }
        if let Some(comment) = comment {
            let line = format!("COMMENT ON LARGE OBJECT {oid} IS {};\n", literal(&comment));
            writer.write(line.as_bytes())?;
        }
    }
    Ok(writer.finish(b"")?)
}
