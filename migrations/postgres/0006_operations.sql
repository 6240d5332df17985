-- Work that takes longer than a request, for whichever replica is asked about it. update_time is when its server was last
-- heard of.
CREATE TABLE operations (
    id             UUID    NOT NULL PRIMARY KEY,
    collection_uid UUID    NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    kind           TEXT    NOT NULL,
    running        BOOLEAN NOT NULL,
    cancelled      BOOLEAN NOT NULL,
    outcome        JSONB   CHECK ((outcome IS NULL) = running),
    done           BIGINT  NOT NULL,
    total          BIGINT  NOT NULL,
    create_time    BIGINT  NOT NULL,
    update_time    BIGINT  NOT NULL,
    expire_time    BIGINT  NOT NULL
);

CREATE INDEX operations_collection ON operations (collection_uid, id);
CREATE INDEX operations_expire_time ON operations (expire_time);

-- What an operation found names templates, and goes with them: who is erased is erased from it in the same commit. Whose
-- they are stands with the templates.
CREATE TABLE operation_findings (
    operation_id      UUID   NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    ordinal           BIGINT NOT NULL,
    template_id       UUID   NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    other_template_id UUID   REFERENCES templates (id) ON DELETE CASCADE,
    group_number      BIGINT CHECK ((group_number IS NULL) = (other_template_id IS NOT NULL)),
    similarity        DOUBLE PRECISION CHECK ((similarity IS NULL) = (other_template_id IS NULL)),
    llr               DOUBLE PRECISION,
    same_image        BOOLEAN NOT NULL,
    PRIMARY KEY (operation_id, ordinal)
);

CREATE INDEX operation_findings_template ON operation_findings (template_id);
CREATE INDEX operation_findings_other ON operation_findings (other_template_id) WHERE other_template_id IS NOT NULL;
