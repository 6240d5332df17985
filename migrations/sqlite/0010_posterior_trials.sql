-- Log-odds of trials of the open-set decider, 32-bit floats, little endian; each mated one with the margin of its trial.
ALTER TABLE calibrations ADD COLUMN posterior_nonmated BLOB NOT NULL DEFAULT x'';
ALTER TABLE calibrations ADD COLUMN posterior_mated BLOB NOT NULL DEFAULT x'';
ALTER TABLE calibrations ADD COLUMN posterior_made_up BLOB NOT NULL DEFAULT x'';
ALTER TABLE calibrations ADD COLUMN posterior_outsiders BLOB NOT NULL DEFAULT x'';
