-- Similarities of trials, 32-bit floats, little endian, and what they were made of. No numbers of an embedding.
CREATE TABLE calibrations (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    collection_uid BLOB    NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    model          TEXT    NOT NULL,
    modality       TEXT    NOT NULL,
    digest         BLOB    NOT NULL CHECK (length(digest) = 32),
    dimension      INTEGER NOT NULL CHECK (dimension > 0),
    parts          INTEGER NOT NULL CHECK (parts > 0),
    pooling        TEXT    NOT NULL CHECK (json_valid(pooling)),
    quality_mean   REAL    CHECK (quality_mean BETWEEN 0 AND 1),
    active         INTEGER NOT NULL CHECK (active IN (0, 1)),
    identities     INTEGER NOT NULL,
    templates      INTEGER NOT NULL,
    nonmated_best  BLOB    NOT NULL,
    impostor       BLOB    NOT NULL,
    mated_best     BLOB    NOT NULL,
    outsiders      BLOB    NOT NULL,
    create_time    INTEGER NOT NULL
) STRICT;

CREATE INDEX calibrations_collection ON calibrations (collection_uid, id);
-- Two in force for one modality would be two answers to one question.
CREATE UNIQUE INDEX calibrations_active ON calibrations (collection_uid, modality) WHERE active;
