-- Times are microseconds since the epoch, UTC. Ids compare bytewise (COLLATE "C") whatever the locale of the database,
-- so that pages come in the same order as from SQLite. What belongs to a collection, an identity or a template goes with
-- it by ON DELETE CASCADE, so that no erasure can forget a table.

CREATE TABLE collections (
    uid           UUID             NOT NULL PRIMARY KEY,
    id            TEXT COLLATE "C" NOT NULL UNIQUE,
    display_name  TEXT             NOT NULL,
    policy        JSONB            NOT NULL,
    revision      BIGINT           NOT NULL,
    head_position BIGINT           NOT NULL DEFAULT 0,
    create_time   BIGINT           NOT NULL,
    update_time   BIGINT           NOT NULL
);

CREATE TABLE collection_spaces (
    collection_uid UUID             NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    name           TEXT COLLATE "C" NOT NULL,
    ordinal        BIGINT           NOT NULL,
    modality       TEXT             NOT NULL,
    digest         BYTEA            NOT NULL CHECK (octet_length(digest) = 32),
    dimension      BIGINT           NOT NULL CHECK (dimension > 0),
    role           TEXT             NOT NULL CHECK (role IN ('active', 'beside')),
    external       BOOLEAN          NOT NULL,
    PRIMARY KEY (collection_uid, name)
);

-- Two searched spaces of one modality would be two answers to one question.
CREATE UNIQUE INDEX collection_spaces_active ON collection_spaces (collection_uid, modality) WHERE role = 'active';

CREATE TABLE identities (
    collection_uid UUID             NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    id             TEXT COLLATE "C" NOT NULL,
    labels         JSONB            NOT NULL,
    expire_time    BIGINT,
    revision       BIGINT           NOT NULL,
    create_time    BIGINT           NOT NULL,
    update_time    BIGINT           NOT NULL,
    PRIMARY KEY (collection_uid, id)
);

CREATE INDEX identities_expire_time ON identities (expire_time) WHERE expire_time IS NOT NULL;

CREATE TABLE templates (
    id             UUID             NOT NULL PRIMARY KEY,
    collection_uid UUID             NOT NULL,
    identity_id    TEXT COLLATE "C" NOT NULL,
    modality       TEXT             NOT NULL,
    digest         BYTEA            NOT NULL CHECK (octet_length(digest) = 32),
    dimension      BIGINT           NOT NULL CHECK (dimension > 0),
    model          TEXT             NOT NULL,
    origin         TEXT             NOT NULL CHECK (origin IN ('sample', 'embedding')),
    position       BIGINT           NOT NULL,
    create_time    BIGINT           NOT NULL,
    FOREIGN KEY (collection_uid, identity_id) REFERENCES identities (collection_uid, id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX templates_position ON templates (collection_uid, position);
CREATE INDEX templates_identity ON templates (collection_uid, identity_id, id);

-- The numbers stand apart from what is known of them, with room for the key that they may be encrypted under.
CREATE TABLE template_payloads (
    template_id UUID  NOT NULL PRIMARY KEY REFERENCES templates (id) ON DELETE CASCADE,
    format      TEXT  NOT NULL,
    key_id      TEXT,
    nonce       BYTEA,
    bytes       BYTEA NOT NULL
) WITH (toast_tuple_target = 8160);

-- Numbers of an embedding do not compress; and a replica that starts reads all of them, so they stay in the row while
-- they fit in a page.
ALTER TABLE template_payloads ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- What happened and to whom, and nothing else: no labels, no numbers. Entries outlive their subjects.
CREATE TABLE log_entries (
    collection_uid UUID             NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    position       BIGINT           NOT NULL CHECK (position > 0),
    kind           TEXT             NOT NULL CHECK (kind IN ('admit', 'forget', 'label', 'expire', 'move')),
    identity_id    TEXT COLLATE "C" NOT NULL,
    template_id    UUID,
    time           BIGINT           NOT NULL,
    PRIMARY KEY (collection_uid, position)
);

CREATE TABLE decisions (
    id             UUID   NOT NULL PRIMARY KEY,
    collection_uid UUID   NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    time           BIGINT NOT NULL,
    body           JSONB  NOT NULL
);

CREATE INDEX decisions_collection ON decisions (collection_uid);
CREATE INDEX decisions_time ON decisions (time);

-- By the collection's id and not its uid, because a request names the id, and may do so before there is a uid.
CREATE TABLE idempotency_keys (
    principal   TEXT   NOT NULL,
    method      TEXT   NOT NULL,
    collection  TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    body_hash   BYTEA  NOT NULL CHECK (octet_length(body_hash) = 32),
    answer      BYTEA  NOT NULL,
    expire_time BIGINT NOT NULL,
    PRIMARY KEY (principal, method, collection, key)
);

CREATE INDEX idempotency_keys_collection ON idempotency_keys (collection);
CREATE INDEX idempotency_keys_expire_time ON idempotency_keys (expire_time);
