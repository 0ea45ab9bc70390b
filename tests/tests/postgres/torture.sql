-- A database that holds one of everything that can go wrong.
SET client_min_messages = warning;
CREATE EXTENSION hstore;
CREATE EXTENSION btree_gist;
CREATE SCHEMA "Odd ""schema"".x";
COMMENT ON SCHEMA "Odd ""schema"".x" IS 'it''s odd: \ and
newline';

CREATE TYPE mood AS ENUM ('sad', 'o''k', 'very "happy", \ 😀');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS numeric(12, 3) CHECK (VALUE > 0) NOT NULL DEFAULT 1;
CREATE DOMAIN tags AS text[] CHECK (array_position(VALUE, 'bad') IS NULL);
CREATE TYPE mood_range AS RANGE (subtype = int8, multirange_type_name = mood_spans);
CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION sloppy (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

CREATE TABLE kinds (
    id int GENERATED ALWAYS AS IDENTITY (START 1000 INCREMENT -7 MINVALUE -100000 MAXVALUE 1000 CYCLE) PRIMARY KEY,
    n numeric, n2 numeric(30, 8), n3 numeric(3, -2),
    i2 smallint, i8 bigint, f4 real, f8 double precision,
    t text, v varchar(10), c char(6), nm name, b bytea, bo boolean,
    ts timestamp, tz timestamptz, d date, ti time, tt timetz, iv interval, iv2 interval day to second(3),
    ia int[], ta text[], ma numeric[][], cube int[], e mood, ea mood[], dom positive, tg tags,
    p pair, pa pair[], j json, jb jsonb, jp jsonpath, u uuid,
    r4 int4range, rn numrange, rt tstzrange, rd daterange, mr int4multirange, rm mood_range,
    ip inet, ci cidr, mac macaddr, mac8 macaddr8, bi bit(5), vb bit varying,
    mo money, tv tsvector, tq tsquery, x xml, h hstore, o oid, rc regclass, ls pg_lsn, xi xid8,
    pt point, li line, se lseg, bx box, pth path, pg polygon, cr circle,
    ge text COLLATE german, sl text COLLATE sloppy
);
INSERT INTO kinds (n, n2, n3, i2, i8, f4, f8, t, v, c, nm, b, bo) VALUES
    ('NaN', 'NaN', 12345, -32768, -9223372036854775808, 'NaN', '-Infinity', '', '', '', '', '', true),
    ('Infinity', 0.00000001, 99900, 32767, 9223372036854775807, '1e-45', '5e-324', NULL, NULL, NULL, NULL, NULL, NULL),
    ('-Infinity', -1234567890123456789012.12345678, -100, 0, 0, '-0', 0.1, '\N', '\.', '\N', 'x', '\x00', false),
    (123456789012345678901234567890.123456789012345678901234567890, 1.10, 0, 1, 1, 3.4028235e38,
     1.7976931348623157e308, E'tab\tnewline\nreturn\rback\\slash\\n \b\f\v \x01 end', E'a\tb', 'pad', 'n', '\xdeadbeef00ff5c6e', true),
    (1.500, 1.5, 100, 1, 1, 0.3, 0.30000000000000004, E'\\.', E'\\N', '  x', '"', E'\\x5c2e0a', true),
    (0, 0, 0, 1, 1, 1, 1, '𝄞 😀 ﷽ ñ n̈ ‮', '😀😀', '😀', 'é', convert_to('é', 'LATIN1'), true),
    (1e1000, 1, 1, 1, 1, 1, 1, repeat(E'long\n\\.\n', 200000), 'x', 'x', 'x', decode(repeat('005c0a', 100000), 'hex'), true);
INSERT INTO kinds (ts, tz, d, ti, tt, iv, iv2) VALUES
    ('infinity', 'infinity', 'infinity', '24:00:00', '00:00:00+15:59:59', '178000000 years', '1 day'),
    ('-infinity', '-infinity', '-infinity', '00:00:00', '23:59:59.999999-12', '-178000000 years', '-1 day 00:00:00.001'),
    ('4713-01-01 00:00:00 BC', '4713-01-02 00:00:00+00 BC', '4713-01-01 BC', '12:34:56.789012', '12:00+05:45', '1 year -2 mons 3 days -04:05:06.789', '0'),
    ('294276-12-31 23:59:59.999999', '0044-03-15 12:00:00+01 BC', '5874897-12-31', NULL, NULL, '-1 mons +1 day', NULL),
    ('1969-12-31 23:59:59.999999', '1883-11-18 12:03:57-04:56:02', '0001-01-01', NULL, NULL, '00:00:00.000001', NULL);
INSERT INTO kinds (ia, ta, ma, cube, e, ea, dom, tg, p, pa) VALUES
    ('{}', '{}', '{}', '{{{1,2},{3,NULL}},{{5,6},{7,8}}}', 'sad', '{sad,NULL}', 0.001, '{}', ROW(NULL, NULL), '{}'),
    ('[-2:0]={1,NULL,3}', ARRAY['', NULL, 'NULL', 'a,b', '{"x"}', E'\\', E'\n', '😀', ' sp '], '{{NaN,1.50},{NULL,Infinity}}',
     NULL, 'very "happy", \ 😀', ARRAY['o''k', 'very "happy", \ 😀']::mood[], 999999999.999, '{good,NULL}', ROW(1, ''),
     ARRAY[ROW(1, E'a"b\\c,(d)\n')::pair, NULL, ROW(NULL, 'NULL')::pair]);
INSERT INTO kinds (j, jb, jp, u, r4, rn, rt, rd, mr, rm) VALUES
    ('{"b": 1, "a":  2, "a": 3, "n": 1.10, "u": "\u00e9\\"}', '{"b": 1, "a": 3, "n": 1.10, "deep": [null, {"x": "\n😀"}]}',
     '$.a[*] ? (@ > 1)', 'ffffffff-ffff-4fff-bfff-ffffffffffff', 'empty', '(,1.5]', '[2020-01-01 00:00+02,infinity)', '[,]',
     '{[1,3),[5,9)}', '[1,5)'),
    (' null ', 'null', 'strict $', '00000000-0000-0000-0000-000000000000', '(,)', 'empty', 'empty', 'empty', '{}', 'empty'),
    ('"\u0000"', '12345678901234567890.12345678901234567890', '$', NULL, '[1,1]', '[NaN,NaN]', '(,)', '[2020-02-29,2020-03-01]', '{(,)}', NULL);
INSERT INTO kinds (ip, ci, mac, mac8, bi, vb, mo, tv, tq, x, h, o, rc, ls, xi) VALUES
    ('192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'', '-92233720368547758.08',
     '''a b'':1A,2B ''it''''s'':3 ''\\'':4', '''a'' & !( ''b'':*A | c )', '<?xml version="1.0"?><a b="c">&lt;é</a>',
     'a=>1, "b c"=>NULL, "\"q"=>"\\"', 4294967295, 'pg_class', 'FFFFFFFF/FFFFFFFF', '18446744073709551615'),
    ('::ffff:1.2.3.4/128', '2001:db8::/32', NULL, NULL, B'00000', B'1111000011110000111', '12.34', '', '', 'just text <b/> content', '', 0, NULL, '0/0', '0');
INSERT INTO kinds (pt, li, se, bx, pth, pg, cr, ge, sl) VALUES
    ('(1.1,-2e-300)', '{1,-1,0.1}', '[(0,0),(1,0.30000000000000004)]', '(1,1),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1),(1,0))', '<(0.1,0.2),3>', 'Ärger', 'SLOPPY'),
    ('(NaN,Infinity)', NULL, NULL, NULL, '((0,0),(1,1))', NULL, NULL, 'Zorn', 'sloppy');

-- Generated columns, also where nothing else is, dropped columns, defaults.
CREATE TABLE generated (
    a int, gone text, "weird ""col"" \ 
name" text DEFAULT 'x;y''z', twice int GENERATED ALWAYS AS (a * 2) STORED,
    by_default bigint GENERATED BY DEFAULT AS IDENTITY, at timestamptz DEFAULT '2020-06-01 12:00:00 America/New_York'
);
INSERT INTO generated (a, at) SELECT i, '2000-01-01'::timestamptz + i * interval '1 hour' FROM generate_series(1, 500) i;
ALTER TABLE generated DROP COLUMN gone;
ALTER TABLE generated ADD COLUMN late text DEFAULT 'added later';
CREATE TABLE all_generated (x int GENERATED ALWAYS AS (1) STORED);
INSERT INTO all_generated DEFAULT VALUES;
CREATE TABLE "Odd ""schema"".x"."t a.b""; DROP TABLE kinds; --" ("SELECT" int, "a""b" text, "ünï" text, "\." text);
INSERT INTO "Odd ""schema"".x"."t a.b""; DROP TABLE kinds; --" VALUES (1, '\.', E'\\.\n', ''), (2, NULL, 'NULL', '\N');
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE empty_table (a int PRIMARY KEY, b text NOT NULL);
CREATE UNLOGGED TABLE unlogged (a int);
INSERT INTO unlogged SELECT generate_series(1, 100);
CREATE TABLE one_null (a text);
INSERT INTO one_null VALUES (NULL), (''), ('\N'), ('\\N'), ('\.');

-- Partitions of all kinds, and inheritance.
CREATE TABLE by_range (id int, at date, v text) PARTITION BY RANGE (at);
CREATE TABLE by_range_old PARTITION OF by_range FOR VALUES FROM (MINVALUE) TO ('2000-01-01');
CREATE TABLE by_range_new PARTITION OF by_range FOR VALUES FROM ('2000-01-01') TO ('2100-01-01') PARTITION BY LIST (v);
CREATE TABLE by_range_new_a PARTITION OF by_range_new FOR VALUES IN ('a', NULL);
CREATE TABLE by_range_new_rest (extra_first text, v text, at date, id int);
ALTER TABLE by_range_new_rest DROP COLUMN extra_first;
ALTER TABLE by_range_new ATTACH PARTITION by_range_new_rest DEFAULT;
CREATE TABLE by_range_default PARTITION OF by_range DEFAULT;
INSERT INTO by_range SELECT i, '1990-01-01'::date + i * 100, (ARRAY['a', 'b', NULL, 'c'])[i % 4 + 1] FROM generate_series(1, 500) i;
INSERT INTO by_range VALUES (0, 'infinity', 'x'), (0, NULL, 'y');
CREATE INDEX by_range_v ON by_range (v, id);
CREATE TABLE by_hash (e mood, v int) PARTITION BY HASH (e);
CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO by_hash SELECT (enum_range(NULL::mood))[i % 3 + 1], i FROM generate_series(1, 60) i;
CREATE TABLE by_text_hash (k text PRIMARY KEY) PARTITION BY HASH (k);
CREATE TABLE by_text_hash_0 PARTITION OF by_text_hash FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO by_text_hash SELECT 'k' || i FROM generate_series(1, 50) i;
CREATE TABLE parent (a int, b text DEFAULT 'parent', CHECK (a > 0));
CREATE TABLE child (c text) INHERITS (parent);
CREATE TABLE grandchild (b text DEFAULT 'grand') INHERITS (child);
INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 'cc'); INSERT INTO grandchild VALUES (3, 'g', 'gg');

-- Foreign keys in a circle, deferred, to oneself.
CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES hen DEFERRABLE INITIALLY DEFERRED, boss int REFERENCES egg);
ALTER TABLE hen ADD CONSTRAINT from_egg FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO hen SELECT i, 101 - i FROM generate_series(1, 100) i;
INSERT INTO egg SELECT i, i, 101 - i FROM generate_series(1, 100) i;
COMMIT;
ALTER TABLE empty_table ADD CONSTRAINT never CHECK (a <> 3) NOT VALID;
CREATE TABLE old_rows (a int);
INSERT INTO old_rows VALUES (-1);
ALTER TABLE old_rows ADD CONSTRAINT only_new CHECK (a > 0) NOT VALID;
ALTER TABLE old_rows ADD CONSTRAINT fk_new FOREIGN KEY (a) REFERENCES hen NOT VALID;

-- Constraints and indexes.
CREATE TABLE booking (room int, during tsrange, note text,
    EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (note IS DISTINCT FROM 'draft') DEFERRABLE);
INSERT INTO booking VALUES (1, '[2020-01-01,2020-01-02)', 'a'), (1, '[2020-01-02,2020-01-03)', 'b'), (1, '[2020-01-01,2020-01-03)', 'draft');
CREATE UNIQUE INDEX kinds_partial ON kinds (lower(t) DESC NULLS LAST) INCLUDE (bo) WHERE t IS NOT NULL AND length(t) < 100;
CREATE INDEX kinds_hstore ON kinds USING gin (h);
CREATE INDEX kinds_jsonb ON kinds USING gin (jb jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX kinds_brin ON generated USING brin (a) WITH (pages_per_range = 2);
CREATE UNIQUE INDEX nulls_equal ON one_null (a) NULLS NOT DISTINCT;
CREATE STATISTICS some_statistics (dependencies, ndistinct) ON a, twice FROM generated;
ALTER TABLE generated ALTER COLUMN a SET STATISTICS 17, ALTER COLUMN late SET STORAGE EXTERNAL;
ALTER TABLE generated SET (fillfactor = 70, autovacuum_enabled = off), REPLICA IDENTITY FULL;

-- Functions, among them one in SQL with semicolons, and one whose text looks like a psql command.
CREATE FUNCTION later(i int) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT CASE WHEN i > 0 THEN i + 1 ELSE 0 END; END;
CREATE PROCEDURE two_steps(INOUT a int) LANGUAGE sql BEGIN ATOMIC INSERT INTO empty_table VALUES (a, 'x'); SELECT a + 1; END;
SET check_function_bodies = off;
CREATE FUNCTION strange() RETURNS text LANGUAGE plpgsql AS $f$
BEGIN
\unrestrict abc
\! echo $$ hello
COPY t FROM PROGRAM 'x';
END $f$;
CREATE FUNCTION uses_what_is_missing() RETURNS int LANGUAGE sql AS 'SELECT nowhere FROM not_there';
CREATE AGGREGATE product(double precision) (SFUNC = float8mul, STYPE = double precision, INITCOND = '1');
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, COMMUTATOR = ===);
CREATE CAST (pair AS text) WITH INOUT AS ASSIGNMENT;
CREATE TEXT SEARCH CONFIGURATION mine (COPY = simple);

-- Triggers that must not fire when rows are loaded.
CREATE TABLE fired (what text);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (TG_TABLE_NAME || TG_OP); RETURN NEW; END $$;
CREATE TRIGGER on_insert BEFORE INSERT ON generated FOR EACH ROW EXECUTE FUNCTION fire();
CREATE CONSTRAINT TRIGGER at_end AFTER INSERT ON child DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TRIGGER on_parts AFTER INSERT ON by_range FOR EACH ROW WHEN (NEW.id > 3) EXECUTE FUNCTION fire();
CREATE TRIGGER always AFTER INSERT ON hen EXECUTE FUNCTION fire();
ALTER TABLE hen ENABLE ALWAYS TRIGGER always;
ALTER TABLE child DISABLE TRIGGER at_end;
CREATE RULE redirect AS ON INSERT TO old_rows WHERE NEW.a = 7 DO ALSO (INSERT INTO fired VALUES ('a;b'); INSERT INTO fired VALUES ('c'));
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no DDL, please'; END $$;

-- Views, also of views and of what comes later; materialized ones, filled and not.
CREATE VIEW v1 AS SELECT id, t || ';\' AS "T" FROM kinds WHERE t LIKE E'a\n\\b%' WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW counting (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM counting WHERE n < 10;
CREATE MATERIALIZED VIEW mv_filled AS SELECT later(a) AS b, count(*) FROM generated GROUP BY 1;
CREATE UNIQUE INDEX ON mv_filled (b);
CREATE MATERIALIZED VIEW mv_on_mv AS SELECT sum(b) FROM mv_filled;
CREATE MATERIALIZED VIEW mv_empty AS SELECT 1 AS a WITH NO DATA;

-- Sequences with odd settings.
CREATE SEQUENCE never_called START 42;
CREATE SEQUENCE down AS smallint INCREMENT -3 MINVALUE -30000 MAXVALUE -1 START -1 CACHE 5 CYCLE;
SELECT nextval('down'), nextval('down');
CREATE SEQUENCE "Odd ""schema"".x"."s'e""q" MAXVALUE 9223372036854775807 START 9223372036854775806;
SELECT nextval('"Odd ""schema"".x"."s''e""q"');
CREATE TABLE serials (a serial, b bigserial PRIMARY KEY, c int DEFAULT nextval('down'));
INSERT INTO serials DEFAULT VALUES;
ALTER SEQUENCE serials_a_seq RESTART 77;

-- Row security, with a role that another server does not know.
CREATE TABLE secrets (owner text, secret text);
INSERT INTO secrets VALUES ('postgres', 'a'), ('other', 'b');
DO $$ BEGIN CREATE ROLE "torture role"; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
CREATE POLICY own ON secrets FOR SELECT TO "torture role" USING (owner = current_user);
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
GRANT SELECT ON secrets TO "torture role";

COMMENT ON TABLE kinds IS E'a "comment"\nwith lines\n\\. and \\N; COPY x FROM PROGRAM ''y'';';
COMMENT ON COLUMN kinds.t IS '😀';
SELECT lo_from_bytea(4711, decode(repeat('00ff5c', 100000), 'hex')), lo_from_bytea(4712, '');
COMMENT ON LARGE OBJECT 4711 IS 'large';
CREATE EVENT TRIGGER no_ddl ON ddl_command_end WHEN TAG IN ('CREATE CONVERSION') EXECUTE FUNCTION on_ddl();
