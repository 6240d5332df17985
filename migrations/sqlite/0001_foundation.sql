-- Times are microseconds since the epoch, UTC. Text compares bytewise, which is SQLite's default. What belongs to a
-- collection, an identity or a template goes with it by ON DELETE CASCADE, so that no erasure can forget a table.
-- STRICT, so that a column holds what it says.

CREATE TABLE collections (
    uid           BLOB    NOT NULL PRIMARY KEY CHECK (length(uid) = 16),
    id            TEXT    NOT NULL UNIQUE,
    display_name  TEXT    NOT NULL,
    policy        TEXT    NOT NULL CHECK (json_valid(policy)),
    revision      INTEGER NOT NULL,
    head_position INTEGER NOT NULL DEFAULT 0,
    create_time   INTEGER NOT NULL,
    update_time   INTEGER NOT NULL
) STRICT;

CREATE TABLE collection_spaces (
    collection_uid BLOB    NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    name           TEXT    NOT NULL,
    ordinal        INTEGER NOT NULL,
    modality       TEXT    NOT NULL,
    digest         BLOB    NOT NULL CHECK (length(digest) = 32),
    dimension      INTEGER NOT NULL CHECK (dimension > 0),
    role           TEXT    NOT NULL CHECK (role IN ('active', 'beside')),
    external       INTEGER NOT NULL CHECK (external IN (0, 1)),
    PRIMARY KEY (collection_uid, name)
) STRICT, WITHOUT ROWID;

-- Two searched spaces of one modality would be two answers to one question.
CREATE UNIQUE INDEX collection_spaces_active ON collection_spaces (collection_uid, modality) WHERE role = 'active';

CREATE TABLE identities (
    collection_uid BLOB    NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    id             TEXT    NOT NULL,
    labels         TEXT    NOT NULL CHECK (json_valid(labels)),
    expire_time    INTEGER,
    revision       INTEGER NOT NULL,
    create_time    INTEGER NOT NULL,
    update_time    INTEGER NOT NULL,
    PRIMARY KEY (collection_uid, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX identities_expire_time ON identities (expire_time) WHERE expire_time IS NOT NULL;

CREATE TABLE templates (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    collection_uid BLOB    NOT NULL,
    identity_id    TEXT    NOT NULL,
    modality       TEXT    NOT NULL,
    digest         BLOB    NOT NULL CHECK (length(digest) = 32),
    dimension      INTEGER NOT NULL CHECK (dimension > 0),
    model          TEXT    NOT NULL,
    origin         TEXT    NOT NULL CHECK (origin IN ('sample', 'embedding')),
    position       INTEGER NOT NULL,
    create_time    INTEGER NOT NULL,
    FOREIGN KEY (collection_uid, identity_id) REFERENCES identities (collection_uid, id) ON DELETE CASCADE
) STRICT;

CREATE UNIQUE INDEX templates_position ON templates (collection_uid, position);
CREATE INDEX templates_identity ON templates (collection_uid, identity_id, id);

-- The numbers stand apart from what is known of them, with room for the key that they may be encrypted under.
CREATE TABLE template_payloads (
    template_id BLOB NOT NULL PRIMARY KEY REFERENCES templates (id) ON DELETE CASCADE,
    format      TEXT NOT NULL,
    key_id      TEXT,
    nonce       BLOB,
    bytes       BLOB NOT NULL
) STRICT;

-- What happened and to whom, and nothing else: no labels, no numbers. Entries outlive their subjects.
CREATE TABLE log_entries (
    collection_uid BLOB    NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    position       INTEGER NOT NULL CHECK (position > 0),
    kind           TEXT    NOT NULL CHECK (kind IN ('admit', 'forget', 'label', 'expire', 'move')),
    identity_id    TEXT    NOT NULL,
    template_id    BLOB,
    time           INTEGER NOT NULL,
    PRIMARY KEY (collection_uid, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    collection_uid BLOB    NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    time           INTEGER NOT NULL,
    body           TEXT    NOT NULL CHECK (json_valid(body))
) STRICT;

CREATE INDEX decisions_collection ON decisions (collection_uid);
CREATE INDEX decisions_time ON decisions (time);

-- By the collection's id and not its uid, because a request names the id, and may do so before there is a uid.
CREATE TABLE idempotency_keys (
    principal   TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    collection  TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    body_hash   BLOB    NOT NULL CHECK (length(body_hash) = 32),
    answer      BLOB    NOT NULL,
    expire_time INTEGER NOT NULL,
    PRIMARY KEY (principal, method, collection, key)
) STRICT;

CREATE INDEX idempotency_keys_collection ON idempotency_keys (collection);
CREATE INDEX idempotency_keys_expire_time ON idempotency_keys (expire_time);
