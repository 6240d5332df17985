-- Similarities of trials, 32-bit floats, little endian, and what they were made of. No numbers of an embedding.
CREATE TABLE calibrations (
    id             UUID             NOT NULL PRIMARY KEY,
    collection_uid UUID             NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    model          TEXT COLLATE "C" NOT NULL,
    modality       TEXT             NOT NULL,
    digest         BYTEA            NOT NULL CHECK (octet_length(digest) = 32),
    dimension      BIGINT           NOT NULL CHECK (dimension > 0),
    parts          BIGINT           NOT NULL CHECK (parts > 0),
    pooling        JSONB            NOT NULL,
    quality_mean   DOUBLE PRECISION CHECK (quality_mean BETWEEN 0 AND 1),
    active         BOOLEAN          NOT NULL,
    identities     BIGINT           NOT NULL,
    templates      BIGINT           NOT NULL,
    nonmated_best  BYTEA            NOT NULL,
    impostor       BYTEA            NOT NULL,
    mated_best     BYTEA            NOT NULL,
    outsiders      BYTEA            NOT NULL,
    create_time    BIGINT           NOT NULL
);

CREATE INDEX calibrations_collection ON calibrations (collection_uid, id);
-- Two in force for one modality would be two answers to one question.
CREATE UNIQUE INDEX calibrations_active ON calibrations (collection_uid, modality) WHERE active;
