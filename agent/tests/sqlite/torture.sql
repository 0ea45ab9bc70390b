PRAGMA application_id=-1985229329;
PRAGMA user_version=42;
PRAGMA foreign_keys=OFF;
CREATE TABLE every_affinity(
  i INTEGER, t TEXT, b BLOB, r REAL, n NUMERIC, none, v VARCHAR(3), d DECIMAL(10,2), "date" DATETIME
);
CREATE TABLE "select"("from", "a ""b"" 'c'");
CREATE TABLE pairs(a, b INTEGER, c, PRIMARY KEY(b DESC, a)) WITHOUT ROWID;
CREATE TABLE composite(z TEXT COLLATE NOCASE, y INT, x, PRIMARY KEY(z, y)) WITHOUT ROWID;
INSERT INTO composite VALUES('B', 2, 1), ('a', 1, 2), ('b', 1, 3), ('A', 2, 4), ('é', NULL IS NULL, 5);
CREATE TABLE typed(a INT, b TEXT, c REAL, d BLOB, e ANY, f INTEGER PRIMARY KEY) STRICT;
INSERT INTO typed VALUES(1, 'x', 1.0, X'00', 1, 5), (NULL, '12', 2.5, X'', '1', -7), (3, '', -0.0, NULL, 1.0, 9);
CREATE TABLE numbered(id INTEGER PRIMARY KEY AUTOINCREMENT, name);
INSERT INTO numbered VALUES(3, 'a'), (-5, 'negative'), (1000, 'gone');
DELETE FROM numbered WHERE id = 1000;
CREATE TABLE numbered_too(id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE gaps(a, b UNIQUE);
INSERT INTO gaps(rowid, a, b) VALUES(-9223372036854775808, 'min', 1), (-3, 'negative', 2), (7, 'seven', 3), (9223372036854775807, 'max', 4);
CREATE TABLE shadowed(rowid, "OID", x);
INSERT INTO shadowed(_rowid_, rowid, oid, x) VALUES(70, 1, 2, 3), (5, 'a', 'b', 'c');
CREATE TABLE all_shadowed(rowid, oid, _rowid_);
INSERT INTO all_shadowed VALUES(3, 2, 1), (1, 2, 3);
CREATE TABLE not_alias(id INTEGER PRIMARY KEY DESC, a);
INSERT INTO not_alias(rowid, id, a) VALUES(50, 1, 'x'), (40, NULL, 'y'), (30, 2, 'z');
CREATE TABLE text_key(k TEXT PRIMARY KEY, v);
INSERT INTO text_key(rowid, k, v) VALUES(9, 'a', 1), (2, 'b', 2), (4, NULL, 3), (5, NULL, 4);
CREATE TABLE computed(a INT, b INT GENERATED ALWAYS AS (a * 2) VIRTUAL, c AS (a || 'x') STORED, d);
INSERT INTO computed(a, d) VALUES(1, 'p'), (2, 'q'), (NULL, 'r');
CREATE TABLE lying(a CHECK (a > 0), b NOT NULL DEFAULT 'd');
PRAGMA ignore_check_constraints=ON;
INSERT INTO lying VALUES(-1, 'unchecked'), (1, '');
PRAGMA ignore_check_constraints=OFF;
CREATE TABLE hen(id INTEGER PRIMARY KEY, egg REFERENCES egg(id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE egg(id INTEGER PRIMARY KEY, hen REFERENCES hen(id) ON DELETE CASCADE);
INSERT INTO hen VALUES(1, 2), (3, 99);
INSERT INTO egg VALUES(2, 1), (4, NULL);
CREATE TABLE empty(a, b);
CREATE TABLE "new
line"("col
umn" INT, 'it''s' , [brackets], `back``tick`);
INSERT INTO "new
line" VALUES(1, 'two', 3.0, X'04'), (NULL, '5', -0.0, 'a
b');
CREATE TABLE [空 表 😀] ([ключ] TEXT);
INSERT INTO [空 表 😀] VALUES('знач'), ('😀');
CREATE TABLE commented(a -- the first; not the last
, /* second; */ b DEFAULT 'multi
line ; default',
go
, c CHECK (c
/
2 IS NOT 77)
);
INSERT INTO commented VALUES(1, 2, 3, 4);
CREATE TABLE altered(a);
INSERT INTO altered VALUES(1), (2);
ALTER TABLE altered ADD COLUMN late TEXT DEFAULT 5;
ALTER TABLE altered ADD COLUMN later REAL DEFAULT 5;
CREATE TABLE watched(a);
CREATE TABLE fired(what);
CREATE TRIGGER watch AFTER INSERT ON watched BEGIN
  INSERT INTO fired VALUES('END;'); -- END;
  INSERT INTO fired SELECT CASE WHEN new.a > 5 THEN 'big' END WHERE new.a > 5;
END;
INSERT INTO watched VALUES(1), (2);
CREATE VIEW watched_view AS SELECT a FROM watched -- trailing comment
;
CREATE TRIGGER instead INSTEAD OF INSERT ON watched_view BEGIN SELECT 1; INSERT INTO fired VALUES(new.a); END;
CREATE VIEW forward AS SELECT * FROM later_view;
CREATE VIEW later_view(x, y) AS SELECT a, b FROM empty;
CREATE TABLE once(a, b);
INSERT INTO once VALUES('x', NULL), ('y', 1), ('y', 2);
CREATE UNIQUE INDEX once_partial ON once(a) WHERE b IS NULL;
CREATE INDEX once_expression ON once(lower(a) DESC, b COLLATE NOCASE, length("b") + 1);
CREATE INDEX "quoted ""index""" ON "select"("from" DESC)   /* odd end */ ;
CREATE TABLE conflicting(a UNIQUE ON CONFLICT REPLACE, b PRIMARY KEY ON CONFLICT IGNORE);
INSERT INTO conflicting VALUES(1, 2), (3, 4);
CREATE VIRTUAL TABLE prose USING fts5(title, body, tokenize = 'porter unicode61');
CREATE VIRTUAL TABLE "quo""ted" USING fts4(a,
  b);
INSERT INTO "quo""ted" VALUES('some', 'words');
CREATE VIRTUAL TABLE boxes USING rtree(id, minx, maxx, +note);
INSERT INTO boxes VALUES(1, 1.5, 2.5, 'one'), (2, 3, 4, NULL);
ANALYZE;
