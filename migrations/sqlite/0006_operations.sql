-- Work that takes longer than a request, for whichever replica is asked about it. update_time is when its server was last
-- heard of.
CREATE TABLE operations (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    collection_uid BLOB    NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    kind           TEXT    NOT NULL,
    running        INTEGER NOT NULL CHECK (running IN (0, 1)),
    cancelled      INTEGER NOT NULL CHECK (cancelled IN (0, 1)),
    outcome        TEXT    CHECK ((outcome IS NULL) = running AND json_valid(coalesce(outcome, '{}'))),
    done           INTEGER NOT NULL,
    total          INTEGER NOT NULL,
    create_time    INTEGER NOT NULL,
    update_time    INTEGER NOT NULL,
    expire_time    INTEGER NOT NULL
) STRICT;

CREATE INDEX operations_collection ON operations (collection_uid, id);
CREATE INDEX operations_expire_time ON operations (expire_time);

-- What an operation found names templates, and goes with them: who is erased is erased from it in the same commit. Whose
-- they are stands with the templates.
CREATE TABLE operation_findings (
    operation_id      BLOB    NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    ordinal           INTEGER NOT NULL,
    template_id       BLOB    NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    other_template_id BLOB    REFERENCES templates (id) ON DELETE CASCADE,
    group_number      INTEGER CHECK ((group_number IS NULL) = (other_template_id IS NOT NULL)),
    similarity        REAL    CHECK ((similarity IS NULL) = (other_template_id IS NULL)),
    llr               REAL,
    same_image        INTEGER NOT NULL CHECK (same_image IN (0, 1)),
    PRIMARY KEY (operation_id, ordinal)
) STRICT, WITHOUT ROWID;

CREATE INDEX operation_findings_template ON operation_findings (template_id);
CREATE INDEX operation_findings_other ON operation_findings (other_template_id) WHERE other_template_id IS NOT NULL;
