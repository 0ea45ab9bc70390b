//! Owners, privileges and settings: what is left out is named, and nothing becomes more open.

use agent::target::ImportOptions;

use crate::{
    SERVER,
    streams::{export, import},
};

const GUARDED: &str = "
    CREATE ROLE access_owner; CREATE ROLE access_reader;
    CREATE SCHEMA private;
    CREATE TABLE private.notes (id int, body text);
    CREATE VIEW seen AS SELECT 1 AS one;
    CREATE DOMAIN closed_domain AS int; CREATE TYPE closed_enum AS ENUM ('a');
    CREATE FUNCTION \"Secret\"(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE PROCEDURE closed_procedure(a int) LANGUAGE sql AS '';
    CREATE AGGREGATE closed_count(*) (sfunc = int8inc, stype = int8, initcond = '0');
    CREATE FUNCTION open() RETURNS int LANGUAGE sql AS 'SELECT 2';
    REVOKE ALL ON FUNCTION \"Secret\"(int, text) FROM PUBLIC;
    REVOKE ALL ON PROCEDURE closed_procedure FROM PUBLIC;
    REVOKE ALL ON FUNCTION closed_count() FROM PUBLIC;
    REVOKE ALL ON TYPE closed_domain, closed_enum FROM PUBLIC;
    REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION \"Secret\"(int, text) TO access_reader;
    GRANT SELECT ON seen TO access_reader; GRANT UPDATE (body) ON private.notes TO access_reader;
    ALTER TABLE private.notes OWNER TO access_owner;
    SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO access_reader;
    ALTER DEFAULT PRIVILEGES IN SCHEMA private GRANT SELECT ON TABLES TO access_reader;
    ALTER DATABASE access SET work_mem = '7MB';
    ALTER ROLE access_reader IN DATABASE access SET statement_timeout = 5;
    REVOKE CONNECT ON DATABASE access FROM PUBLIC;
    COMMENT ON DATABASE access IS 'guarded'";

#[test]
fn what_is_not_kept_is_named() {
    let url = SERVER.create_database("access");
    SERVER.psql(&url, GUARDED);
    let exported = export(&url).expect("exports");
    let warnings = &exported.meta.warnings;
    let whole = warnings.join("\n");
    for named in [
        "owners of objects were left out (1 belong to access_owner)",
        "privileges (GRANT, REVOKE) on 10 objects were left out",
        "view public.seen",
        "table column private.notes.body",
        "large object 4711",
        "REVOKE … FROM PUBLIC was left out; until it is run again, everyone has the usual privileges on: \
         database access, function pg_catalog.pg_sleep(double precision)\n",
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA private",
        "ALTER DATABASE … SET work_mem, ALTER ROLE access_reader IN DATABASE … SET statement_timeout",
        "the comment on the database was left out",
    ] {
        assert!(whole.contains(named), "{named}: {whole}");
    }
    assert!(
        !whole.contains("7MB") && !whole.contains("open()"),
        "{whole}"
    );

    let target = SERVER.create_database("access target");
    import(&exported, &target, ImportOptions::default()).expect("imports");
    let loaded = SERVER.create_database("access loaded");
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), exported.script()).expect("written");
    SERVER.load(&loaded, script.path());
    let may = "SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc
               WHERE pronamespace = 'public'::regnamespace AND has_function_privilege('access_reader', oid, 'EXECUTE')";
    let types = "SELECT has_type_privilege('access_reader', 'closed_domain', 'USAGE')
                 OR has_type_privilege('access_reader', 'closed_enum', 'USAGE')";
    for url in [&target, &loaded] {
        assert_eq!(SERVER.psql(url, may), "open\n");
        assert_eq!(SERVER.psql(url, types), "f\n");
    }
}

#[test]
fn a_database_with_nothing_to_lose_warns_of_nothing() {
    let url = SERVER.create_database("access plain");
    SERVER.psql(
        &url,
        "CREATE TABLE t (a serial PRIMARY KEY); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE EXTENSION hstore; CREATE SCHEMA other; SELECT lo_create(1);
         GRANT SELECT ON t TO postgres; REVOKE SELECT ON t FROM PUBLIC",
    );
    let exported = export(&url).expect("exports");
    assert_eq!(exported.meta.warnings, Vec::<String>::new());
    let target = SERVER.create_database("access plain target");
    let replace = ImportOptions {
        existing: agent::target::Existing::Replace,
        ..ImportOptions::default()
    };
    SERVER.psql(&target, "CREATE TABLE before ()");
    import(&exported, &target, replace).expect("imports");
    let again = export(&target).expect("exports again");
    assert_eq!(again.meta.warnings, Vec::<String>::new());
}
