-- Number of independent impostor trials; NULL in older calibrations, which have one trial per probe.
ALTER TABLE calibrations ADD COLUMN impostor_independent REAL;
