CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO "items" VALUES(1,'apple');
INSERT INTO "items" VALUES(2,'it''s');
INSERT INTO "items" VALUES(3,NULL);
CREATE INDEX by_name ON items (name);
