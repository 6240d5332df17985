-- Merges and splits of identities, and what a revert of them needs. A record goes with the identity that holds it: the one
-- that kept its id, or the one that it was merged into since. Once reverted, only the first table still has a row.
CREATE TABLE regroupings (
    id             UUID             NOT NULL PRIMARY KEY,
    collection_uid UUID             NOT NULL,
    identity_id    TEXT COLLATE "C" NOT NULL,
    holder_id      TEXT COLLATE "C" NOT NULL,
    kind           TEXT             NOT NULL CHECK (kind IN ('merge', 'split')),
    position       BIGINT           NOT NULL,
    time           BIGINT           NOT NULL,
    revert_time    BIGINT,
    body           JSONB            CHECK ((body IS NULL) = (revert_time IS NOT NULL)),
    FOREIGN KEY (collection_uid, holder_id) REFERENCES identities (collection_uid, id) ON DELETE CASCADE
);

CREATE INDEX regroupings_holder ON regroupings (collection_uid, holder_id, position);

-- The sources of a merge with their records as they were, or the identity that a split made. A row goes when the last of its
-- templates is erased; so it counts them.
CREATE TABLE regrouped_identities (
    regrouping_id  UUID             NOT NULL REFERENCES regroupings (id) ON DELETE CASCADE,
    ordinal        BIGINT           NOT NULL,
    collection_uid UUID             NOT NULL,
    identity_id    TEXT COLLATE "C" NOT NULL,
    templates      BIGINT           NOT NULL,
    body           JSONB            NOT NULL,
    PRIMARY KEY (regrouping_id, identity_id)
);

CREATE INDEX regrouped_identities_identity ON regrouped_identities (collection_uid, identity_id);

-- Which template moved from whom to whom. A move goes with its template.
CREATE TABLE template_moves (
    regrouping_id UUID             NOT NULL REFERENCES regroupings (id) ON DELETE CASCADE,
    ordinal       BIGINT           NOT NULL,
    template_id   UUID             NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    from_id       TEXT COLLATE "C" NOT NULL,
    to_id         TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (regrouping_id, template_id)
);

CREATE INDEX template_moves_template ON template_moves (template_id);
