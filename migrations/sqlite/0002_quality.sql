-- How fit the sample of a template was, and what a track was pooled from. Absent for embeddings that clients sent, and for
-- templates from before this was measured.
ALTER TABLE templates ADD COLUMN quality REAL CHECK (quality BETWEEN 0 AND 1);
ALTER TABLE templates ADD COLUMN frames_used INTEGER;
ALTER TABLE templates ADD COLUMN frames_dropped INTEGER;
ALTER TABLE templates ADD COLUMN spread REAL;

-- How many equal stretches of an embedding are compared each by itself.
ALTER TABLE templates ADD COLUMN parts INTEGER NOT NULL DEFAULT 1 CHECK (parts > 0);
ALTER TABLE collection_spaces ADD COLUMN parts INTEGER NOT NULL DEFAULT 1 CHECK (parts > 0);
