-- Merges and splits of identities, and what a revert of them needs. A record goes with the identity that holds it: the one
-- that kept its id, or the one that it was merged into since. Once reverted, only the first table still has a row.
CREATE TABLE regroupings (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    collection_uid BLOB    NOT NULL,
    identity_id    TEXT    NOT NULL,
    holder_id      TEXT    NOT NULL,
    kind           TEXT    NOT NULL CHECK (kind IN ('merge', 'split')),
    position       INTEGER NOT NULL,
    time           INTEGER NOT NULL,
    revert_time    INTEGER,
    body           TEXT    CHECK ((body IS NULL) = (revert_time IS NOT NULL) AND json_valid(coalesce(body, '{}'))),
    FOREIGN KEY (collection_uid, holder_id) REFERENCES identities (collection_uid, id) ON DELETE CASCADE
) STRICT;

CREATE INDEX regroupings_holder ON regroupings (collection_uid, holder_id, position);

-- The sources of a merge with their records as they were, or the identity that a split made. A row goes when the last of its
-- templates is erased; so it counts them.
CREATE TABLE regrouped_identities (
    regrouping_id  BLOB    NOT NULL REFERENCES regroupings (id) ON DELETE CASCADE,
    ordinal        INTEGER NOT NULL,
    collection_uid BLOB    NOT NULL,
    identity_id    TEXT    NOT NULL,
    templates      INTEGER NOT NULL,
    body           TEXT    NOT NULL CHECK (json_valid(body)),
    PRIMARY KEY (regrouping_id, identity_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX regrouped_identities_identity ON regrouped_identities (collection_uid, identity_id);

-- Which template moved from whom to whom. A move goes with its template.
CREATE TABLE template_moves (
    regrouping_id BLOB    NOT NULL REFERENCES regroupings (id) ON DELETE CASCADE,
    ordinal       INTEGER NOT NULL,
    template_id   BLOB    NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    from_id       TEXT    NOT NULL,
    to_id         TEXT    NOT NULL,
    PRIMARY KEY (regrouping_id, template_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX template_moves_template ON template_moves (template_id);
