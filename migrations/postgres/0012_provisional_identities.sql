-- Whether the identity stands for sightings of a person that no answer has decided yet.
ALTER TABLE identities ADD COLUMN provisional BOOLEAN NOT NULL DEFAULT FALSE;
