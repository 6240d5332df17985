#!/usr/bin/env bash
# tools/test.sh [ARGUMENTS OF cargo test] [-- ARGUMENTS OF THE TESTS]   runs the tests of the whole workspace.
#
# Some tests are ignored by default because they need something from outside the repository. This script includes them where
# it is there:
#   data       SEMBLANCE_TEST_DATA names the folder of the real test data; these tests end in on_real_data
#   postgres   SEMBLANCE_TEST_POSTGRES_URL names a PostgreSQL server (tools/postgres.sh sets it); these end in on_postgres
# SEMBLANCE_TEST_REQUIRE=data,postgres fails at once where something of the list is missing.
# The last line says how many tests were not run, and why.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "tools/test.sh: $*" >&2
    exit 1
}

data=${SEMBLANCE_TEST_DATA:-} postgres=${SEMBLANCE_TEST_POSTGRES_URL:-}
if [ -n "$data" ] && [ ! -f "$data/MANIFEST.md" ]; then
    fail "SEMBLANCE_TEST_DATA is $data, a folder without MANIFEST.md"
fi
for need in $(tr ',' ' ' <<<"${SEMBLANCE_TEST_REQUIRE:-}"); do
    case $need in
    data) [ -n "$data" ] || fail "SEMBLANCE_TEST_REQUIRE asks for data, and SEMBLANCE_TEST_DATA is not set" ;;
    postgres) [ -n "$postgres" ] || fail "SEMBLANCE_TEST_REQUIRE asks for postgres, and SEMBLANCE_TEST_POSTGRES_URL is not set" ;;
    *) fail "SEMBLANCE_TEST_REQUIRE names $need; it knows data and postgres" ;;
    esac
done

packages=(--workspace) cargo_arguments=(--release)
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in -p* | --package*) packages=() ;; esac
    cargo_arguments+=("$1")
    shift
done
[ $# -eq 0 ] || shift
test_arguments=("$@")

output=$(mktemp)
trap 'rm -f "$output"' EXIT
run() { cargo test "${packages[@]}" "${cargo_arguments[@]}" -- "$@" "${test_arguments[@]}" | tee -a "$output"; }

if [ -n "$data" ] && [ -n "$postgres" ]; then
    run --include-ignored
    missing=nothing
elif [ -n "$data" ]; then
    run
    run --ignored --skip on_postgres
    missing="SEMBLANCE_TEST_POSTGRES_URL"
elif [ -n "$postgres" ]; then
    run
    run --ignored --skip on_real_data
    missing="SEMBLANCE_TEST_DATA"
else
    run
    missing="SEMBLANCE_TEST_"
fi

# libtest prints: test NAME ... ignored, needs VARIABLE
not_run=$(grep -oE '\.\.\. ignored, needs .*' "$output" | grep -F "$missing" | sed 's/^.*ignored, //' | sort | uniq -c |
    sed -E 's/^ *([0-9]+) needs (.*)$/\1 for want of \2/' | paste -s -d ';' | sed 's/;/; /g' || true)
if [ -n "$not_run" ]; then echo "tests not run: $not_run"; else echo "tests not run: none"; fi
