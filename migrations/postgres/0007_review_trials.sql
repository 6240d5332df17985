-- Who said whose a template is, where that was not the client that enrolled it: the posterior at which the self-paced policy
-- accepted it, or the certificate of a reviewer's verdict. What is certified no policy touches.
ALTER TABLE templates
    ADD COLUMN accepted_posterior DOUBLE PRECISION CHECK (accepted_posterior BETWEEN 0 AND 1),
    ADD COLUMN certificate        JSONB CHECK (certificate IS NULL OR accepted_posterior IS NULL);

CREATE INDEX templates_accepted ON templates (collection_uid, accepted_posterior) WHERE accepted_posterior IS NOT NULL;

-- What verdicts showed of the best candidates: numbers of comparisons, of no person. A trial stays when its case goes, and
-- when whoever it was about is erased; so its case is no foreign key.
CREATE TABLE review_trials (
    case_id        UUID   NOT NULL PRIMARY KEY,
    collection_uid UUID   NOT NULL REFERENCES collections (uid) ON DELETE CASCADE,
    ordinal        BIGINT NOT NULL,
    body           JSONB  NOT NULL
);

CREATE UNIQUE INDEX review_trials_ordinal ON review_trials (collection_uid, ordinal);

-- Trials of review that a calibration took in: similarities of best candidates that were right, and that were wrong.
ALTER TABLE calibrations
    ADD COLUMN reviewed_right BYTEA NOT NULL DEFAULT '',
    ADD COLUMN reviewed_wrong BYTEA NOT NULL DEFAULT '';
