-- Whether the identity stands for sightings of a person that no answer has decided yet.
ALTER TABLE identities ADD COLUMN provisional INTEGER NOT NULL DEFAULT 0 CHECK (provisional IN (0, 1));
