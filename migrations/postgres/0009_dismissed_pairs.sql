-- Pairs of identities that somebody said are two people, the lower id first.
CREATE TABLE dismissed_pairs (
    collection_uid UUID             NOT NULL,
    one_id         TEXT COLLATE "C" NOT NULL,
    other_id       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (collection_uid, one_id, other_id),
    CHECK (one_id < other_id),
    FOREIGN KEY (collection_uid, one_id) REFERENCES identities (collection_uid, id) ON DELETE CASCADE,
    FOREIGN KEY (collection_uid, other_id) REFERENCES identities (collection_uid, id) ON DELETE CASCADE
);

CREATE INDEX dismissed_pairs_other ON dismissed_pairs (collection_uid, other_id);
