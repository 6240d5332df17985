-- How fit the sample of a template was, and what a track was pooled from. Absent for embeddings that clients sent, and for
-- templates from before this was measured.
ALTER TABLE templates
    ADD COLUMN quality        double precision CHECK (quality BETWEEN 0 AND 1),
    ADD COLUMN frames_used    bigint,
    ADD COLUMN frames_dropped bigint,
    ADD COLUMN spread         double precision,
    -- How many equal stretches of an embedding are compared each by itself.
    ADD COLUMN parts          bigint NOT NULL DEFAULT 1 CHECK (parts > 0);

ALTER TABLE collection_spaces ADD COLUMN parts bigint NOT NULL DEFAULT 1 CHECK (parts > 0);
