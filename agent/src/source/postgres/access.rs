//! Who may do what: owners, privileges and settings, which belong to a server and its roles.
//!
//! They are left out, and this says so. Only what needs no role is kept: functions and types that are
//! closed to everyone stay closed, or a restored database would be more open than the one exported.

use std::fmt::Write as _;

use ::postgres::Client;

use super::catalog::get;
use crate::postgres::failure::Failure;

/// Most objects that one warning names.
const NAMES_MAX: usize = 100;

/// Objects that have an owner, and their privileges where they are not those that the server, or the
/// extension that made the object, gives to anyone.
const OBJECTS: &str = "
    WITH object AS (
        SELECT 'pg_class'::regclass::oid AS classid, c.oid AS objid, 0 AS subid, c.relnamespace AS schema,
            c.relowner AS owner, c.relacl AS acl, (CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\" AS type
        FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
        UNION ALL
        SELECT 'pg_class'::regclass, a.attrelid, a.attnum, 0, c.relowner, a.attacl, 'c'
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
        UNION ALL
        SELECT 'pg_proc'::regclass, oid, 0, pronamespace, proowner, proacl, 'f' FROM pg_proc
        UNION ALL
        SELECT 'pg_type'::regclass, t.oid, 0, typnamespace, typowner, typacl, 'T' FROM pg_type t
        WHERE typtype IN ('b', 'd', 'e', 'r') AND typelem = 0 OR typtype = 'c' AND EXISTS (
            SELECT FROM pg_class c WHERE c.oid = typrelid AND c.relkind = 'c')
        UNION ALL
        SELECT 'pg_namespace'::regclass, oid, 0, oid, nspowner, nspacl, 'n' FROM pg_namespace
        UNION ALL
        SELECT 'pg_language'::regclass, oid, 0, 0, lanowner, lanacl, 'l' FROM pg_language
        UNION ALL
        SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, 0, fdwowner, fdwacl, 'F'
        FROM pg_foreign_data_wrapper
        UNION ALL
        SELECT 'pg_foreign_server'::regclass, oid, 0, 0, srvowner, srvacl, 'S' FROM pg_foreign_server
        UNION ALL
        SELECT 'pg_largeobject'::regclass, oid, 0, 0, lomowner, lomacl, 'L' FROM pg_largeobject_metadata
        UNION ALL
        SELECT 'pg_database'::regclass, oid, 0, 0, datdba, datacl, 'd' FROM pg_database
        WHERE datname = current_database()
    ), described AS (
        SELECT object.*, n.nspname, coalesce(i.initprivs, acldefault(object.type, owner)) AS given,
            object.type NOT IN ('c', 'd', 'l', 'F')
            AND coalesce(n.nspname, '') !~ '^pg_' AND coalesce(n.nspname, '') <> 'information_schema'
            AND NOT (object.type = 'n' AND n.nspname = 'public'
                AND (owner = 10 OR pg_get_userbyid(owner) = 'pg_database_owner'))
            AND NOT EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = object.classid AND d.objid = object.objid AND d.deptype = 'e') AS is_users
        FROM object
        LEFT JOIN pg_namespace n ON n.oid = object.schema
        LEFT JOIN pg_init_privs i
            ON i.classoid = object.classid AND i.objoid = object.objid AND i.objsubid = object.subid
    ), changed AS (
        SELECT classid, objid, subid, is_users, type, (SELECT type || ' ' || identity
                FROM pg_identify_object(classid, objid, subid)) AS name,
            EXISTS (SELECT FROM aclexplode(given) g WHERE grantee = 0 AND NOT EXISTS (
                SELECT FROM aclexplode(acl) a
                WHERE a.grantee = 0 AND a.privilege_type = g.privilege_type)) AS is_closed
        FROM described
        WHERE acl IS NOT NULL AND nspname IS DISTINCT FROM 'information_schema'
            AND (SELECT array_agg(i::text ORDER BY i::text) FROM unnest(acl) i)
                IS DISTINCT FROM (SELECT array_agg(i::text ORDER BY i::text) FROM unnest(given) i)
            AND NOT (type = 'n' AND objid = to_regnamespace('public')
                AND acl @> (acldefault('n', owner) || makeaclitem(0, owner, 'USAGE', false))
                AND acl <@ (acldefault('n', owner) || makeaclitem(0, owner, 'USAGE', false)))
    )";

/// What becomes of owners, privileges and settings.
pub(super) struct Access {
    /// Statements that close to everyone what was closed to everyone.
    pub(super) closings: String,
    /// What is left out.
    pub(super) warnings: Vec<String>,
}

impl Access {
    /// Looks at all of the database that the transaction of `client` sees.
    pub(super) fn read(client: &mut Client) -> Result<Self, Failure> {
        let mut warnings = Vec::new();
        warnings.extend(owners(client)?);
        warnings.extend(privileges(client)?);
        warnings.extend(open_again(client)?);
        warnings.extend(settings(client)?);
        Ok(Self {
            closings: closings(client)?,
            warnings,
        })
    }
}

/// All rows of one text each.
fn texts(client: &mut Client, sql: &str) -> Result<Vec<String>, Failure> {
    client
        .query(sql, &[])?
        .iter()
        .map(|row| get(row, 0))
        .collect()
}

fn owners(client: &mut Client) -> Result<Option<String>, Failure> {
    let sql = format!(
        "{OBJECTS} SELECT count(*) || ' belong to ' || quote_ident(pg_get_userbyid(owner)) FROM described
         WHERE is_users AND pg_get_userbyid(owner) <> current_user
         GROUP BY owner ORDER BY count(*) DESC, owner"
    );
    Ok(listed(&texts(client, &sql)?).map(|owners| {
        format!(
            "owners of objects were left out ({owners}): what is restored belongs to the role that imports it"
        )
    }))
}

fn privileges(client: &mut Client) -> Result<Option<String>, Failure> {
    let sql = format!("{OBJECTS} SELECT name FROM changed ORDER BY name COLLATE \"C\"");
    let names = texts(client, &sql)?;
    Ok(listed(&names).map(|objects| {
        format!(
            "privileges (GRANT, REVOKE) on {} objects were left out: {objects}",
            names.len()
        )
    }))
}

/// Objects that are closed to everyone, and will not be.
fn open_again(client: &mut Client) -> Result<Option<String>, Failure> {
    let sql = format!(
        "{OBJECTS} SELECT name FROM changed
         WHERE is_closed AND NOT (is_users AND type IN ('f', 'T')) ORDER BY name COLLATE \"C\""
    );
    Ok(listed(&texts(client, &sql)?).map(|objects| {
        format!(
            "REVOKE … FROM PUBLIC was left out; until it is run again, everyone has the usual privileges on: {objects}"
        )
    }))
}

fn closings(client: &mut Client) -> Result<String, Failure> {
    let sql = format!(
        "{OBJECTS} SELECT target FROM (SELECT CASE type
                 WHEN 'f' THEN 'ROUTINE ' || objid::regprocedure
                 ELSE 'TYPE ' || format_type(objid, NULL) END AS target
             FROM changed WHERE is_closed AND is_users AND type IN ('f', 'T')) closed
         ORDER BY target COLLATE \"C\""
    );
    // A new line first: what pg_dump wrote may end in a comment.
    let mut out = String::new();
    for target in texts(client, &sql)? {
        write!(out, "\nREVOKE ALL ON {target} FROM PUBLIC;").expect("writing to a string");
    }
    if !out.is_empty() {
        out.push('\n');
    }
    Ok(out)
}

fn settings(client: &mut Client) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    let roles = "SELECT 'ALTER DEFAULT PRIVILEGES FOR ROLE ' || quote_ident(pg_get_userbyid(defaclrole))
                 || coalesce(' IN SCHEMA ' || quote_ident(nspname), '')
                 FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace ORDER BY 1";
    let mut defaults = texts(client, roles)?;
    defaults.dedup();
    if let Some(defaults) = listed(&defaults) {
        warnings.push(format!("default privileges were left out: {defaults}"));
    }
    // Names alone: a value may be a secret.
    let names = "SELECT CASE setrole WHEN 0 THEN 'ALTER DATABASE'
                     ELSE 'ALTER ROLE ' || quote_ident(pg_get_userbyid(setrole)) || ' IN DATABASE' END
                 || ' … SET ' || split_part(setting, '=', 1)
                 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(setconfig) setting
                 WHERE d.datname = current_database() ORDER BY 1";
    if let Some(settings) = listed(&texts(client, names)?) {
        warnings.push(format!(
            "settings of the database were left out: {settings}"
        ));
    }
    let comment = "SELECT '' FROM pg_database
                   WHERE datname = current_database() AND shobj_description(oid, 'pg_database') IS NOT NULL";
    if !texts(client, comment)?.is_empty() {
        warnings.push("the comment on the database was left out".to_owned());
    }
    Ok(warnings)
}

/// Joins names, as many as one warning holds; nothing if there are none.
fn listed(names: &[String]) -> Option<String> {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>();
    let more = names.len() - shown.len();
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown.join(", ")),
        (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}
