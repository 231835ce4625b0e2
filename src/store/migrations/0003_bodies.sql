-- Format 3: the bodies of deliveries stand apart from what came of them.
--
-- A row that is changed is written whole, so that settling a delivery wrote its body a second time.

CREATE TABLE bodies (
    position INTEGER PRIMARY KEY REFERENCES deliveries (position),
    body     BLOB    NOT NULL
) STRICT;

INSERT INTO bodies SELECT position, body FROM deliveries WHERE body IS NOT NULL;

DROP INDEX deliveries_with_body;
ALTER TABLE deliveries DROP COLUMN body;
