#!/usr/bin/env bash
# tools/install.sh NAME: puts one development tool into target/tools/bin, in the version that this file pins.
# SEMBLANCE_TOOLS names another folder. Run again, it does nothing.
set -euo pipefail

name=${1:-}
case $name in
typos) version=1.52.0 ;;
cargo-deny) version=0.20.2 ;;
cargo-about) version=0.9.3 ;;
cargo-fuzz) version=0.13.2 ;;
mdbook) version=0.5.4 ;;
grpcurl) version=1.9.3 ;;
*)
    echo "usage: tools/install.sh typos|cargo-deny|cargo-about|cargo-fuzz|mdbook|grpcurl" >&2
    exit 2
    ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
tools=${SEMBLANCE_TOOLS:-$root/target/tools}
mark=$tools/.$name-version
if [ -x "$tools/bin/$name" ] && [ "$(cat "$mark" 2>/dev/null)" = "$version" ]; then exit 0; fi
mkdir -p "$tools/bin"

build() { # FEATURES, or nothing [MORE ARGUMENTS OF CARGO]
    echo "building $name $version (once, some minutes)" >&2
    cargo install --quiet --locked --force --root "$tools" ${1:+--features "$1"} "${@:2}" "$name@$version"
}

# The wheel carries the program, so this takes a second; a build takes minutes.
download_typos() {
    local work
    work=$(mktemp -d)
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "typos==$version"
    echo "418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6  $(echo "$work"/*.whl)" | sha256sum --check --quiet
    python3 -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
program, = (name for name in wheel.namelist() if name.endswith("/scripts/typos"))
open(sys.argv[2], "wb").write(wheel.read(program))' "$work"/*.whl "$work/typos"
    install -m 755 "$work/typos" "$tools/bin/typos"
    rm -r "$work"
}

case $name in
typos) if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then download_typos; else name=typos-cli build default; fi ;;
cargo-deny) build default ;;
cargo-fuzz) build "" ;;
cargo-about) build cli ;;
# Fast to build, because a book takes a second at any speed of the program. The one wheel of it is by a third party.
mdbook)
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_LTO=off build search --no-default-features
    ;;
# From its sources by the module proxy; a machine without Go does without.
grpcurl) GOBIN=$tools/bin go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$version" ;;
esac
echo "$version" >"$mark"
