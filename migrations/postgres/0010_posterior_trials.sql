-- Log-odds of trials of the open-set decider, 32-bit floats, little endian; each mated one with the margin of its trial.
ALTER TABLE calibrations ADD COLUMN posterior_nonmated BYTEA NOT NULL DEFAULT '';
ALTER TABLE calibrations ADD COLUMN posterior_mated BYTEA NOT NULL DEFAULT '';
ALTER TABLE calibrations ADD COLUMN posterior_made_up BYTEA NOT NULL DEFAULT '';
ALTER TABLE calibrations ADD COLUMN posterior_outsiders BYTEA NOT NULL DEFAULT '';
