-- What resolve could not tell, for humans. A case goes with the identity that its verdict named, for then its samples are
-- that person's.
CREATE TABLE review_cases (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    collection_uid BLOB    NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    state          TEXT    NOT NULL CHECK (state IN ('open', 'claimed', 'decided')),
    lease_until    INTEGER CHECK ((lease_until IS NOT NULL) = (state = 'claimed')),
    identity_id    TEXT,
    revision       INTEGER NOT NULL,
    expire_time    INTEGER NOT NULL,
    body           TEXT    NOT NULL CHECK (json_valid(body)),
    FOREIGN KEY (collection_uid, identity_id) REFERENCES identities (collection_uid, id) ON DELETE CASCADE
) STRICT;

CREATE INDEX review_cases_collection ON review_cases (collection_uid, state, id);
CREATE INDEX review_cases_identity ON review_cases (collection_uid, identity_id) WHERE identity_id IS NOT NULL;
CREATE INDEX review_cases_expire_time ON review_cases (expire_time);

-- The samples of a case as numbers, in the form of template_payloads.
CREATE TABLE review_samples (
    case_id BLOB    NOT NULL REFERENCES review_cases (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    about   TEXT    NOT NULL CHECK (json_valid(about)),
    format  TEXT    NOT NULL,
    key_id  TEXT,
    nonce   BLOB,
    bytes   BLOB    NOT NULL,
    crc32   INTEGER NOT NULL CHECK (crc32 BETWEEN 0 AND 4294967295),
    PRIMARY KEY (case_id, ordinal)
) STRICT, WITHOUT ROWID;
