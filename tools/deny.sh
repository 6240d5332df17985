#!/usr/bin/env bash
# tools/deny.sh: checks the licences, the sources and the bans of deny.toml, and known advisories where their database can be
# fetched. With ADVISORIES=required, as in the workflows, a database that cannot be fetched is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install.sh cargo-deny
PATH=${SEMBLANCE_TOOLS:-target/tools}/bin:$PATH
cargo deny check bans licenses sources
if timeout 120 cargo deny fetch db; then
    cargo deny check --disable-fetch advisories
elif [ "${ADVISORIES:-}" = required ]; then
    echo "tools/deny.sh: the database of advisories cannot be fetched" >&2
    exit 1
else
    echo "tools/deny.sh: advisories were NOT checked: their database cannot be fetched from here" >&2
fi
