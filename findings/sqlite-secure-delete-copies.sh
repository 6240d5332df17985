#!/usr/bin/env bash
# SQLite 3.54.1 with secure_delete=ON: a deleted row of a WITHOUT ROWID table may stay in the database, in the unused part of a page.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check apsw==3.54.1.0
cat >finding.py <<'PYTHON'
"""Inserts and deletes rows of random keys, then looks for the values of deleted rows in the bytes of the database file."""
import random

import apsw

deleted = kept = 0
for seed in range(40):
    draw = random.Random(seed)
    database = apsw.Connection(":memory:")
    database.execute("PRAGMA secure_delete = ON")
    database.execute("CREATE TABLE people (id BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
    live, gone = {}, []
    for _ in range(2000):
        if live and draw.random() < 0.45:
            key = draw.choice(list(live))
            database.execute("DELETE FROM people WHERE id = ?", (key,))
            gone.append(live.pop(key))
        else:
            key, value = draw.randbytes(16), draw.randbytes(draw.choice([64, 256, 256, 300]))
            database.execute("INSERT INTO people VALUES (?, ?)", (key, value))
            live[key] = value
    content = database.serialize("main")
    for value in gone:
        at = content.find(value)
        deleted += 1
        if at >= 0:
            kept += 1
            page, start = content[at // 4096 * 4096:], at % 4096
            begin = int.from_bytes(page[5:7], "big")
            print(f"a deleted value at byte {start} of a page of type {page[0]}, whose rows begin at byte {begin}")
            assert start < begin, "it is not in the unused part of the page"
print(f"SQLite {apsw.sqlite_lib_version()}: {kept} of {deleted} deleted values are still in their database")
assert kept > 0, "no deleted value is left: secure_delete now overwrites what moves between pages"
PYTHON
venv/bin/python finding.py
