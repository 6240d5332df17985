-- What resolve could not tell, for humans. A case goes with the identity that its verdict named, for then its samples are
-- that person's.
CREATE TABLE review_cases (
    id             UUID   NOT NULL PRIMARY KEY,
    collection_uid UUID   NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    state          TEXT   NOT NULL CHECK (state IN ('open', 'claimed', 'decided')),
    lease_until    BIGINT CHECK ((lease_until IS NOT NULL) = (state = 'claimed')),
    identity_id    TEXT   COLLATE "C",
    revision       BIGINT NOT NULL,
    expire_time    BIGINT NOT NULL,
    body           JSONB  NOT NULL,
    FOREIGN KEY (collection_uid, identity_id) REFERENCES identities (collection_uid, id) ON DELETE CASCADE
);

CREATE INDEX review_cases_collection ON review_cases (collection_uid, state, id);
CREATE INDEX review_cases_identity ON review_cases (collection_uid, identity_id) WHERE identity_id IS NOT NULL;
CREATE INDEX review_cases_expire_time ON review_cases (expire_time);

-- The samples of a case as numbers, in the form of template_payloads.
CREATE TABLE review_samples (
    case_id UUID   NOT NULL REFERENCES review_cases (id) ON DELETE CASCADE,
    ordinal BIGINT NOT NULL,
    about   JSONB  NOT NULL,
    format  TEXT   NOT NULL,
    key_id  TEXT,
    nonce   BYTEA,
    bytes   BYTEA  NOT NULL,
    crc32   BIGINT NOT NULL CHECK (crc32 BETWEEN 0 AND 4294967295),
    PRIMARY KEY (case_id, ordinal)
);
