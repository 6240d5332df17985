-- CRC-32 over the template's id and the bytes, so that a flipped bit and numbers that stand at another template are noticed
-- when they are read. Absent for payloads from before this; `semblance doctor --repair` fills it in.
ALTER TABLE template_payloads ADD COLUMN crc32 bigint CHECK (crc32 BETWEEN 0 AND 4294967295);
