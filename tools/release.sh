#!/usr/bin/env bash
# tools/release.sh notes TAG                    prints the changelog of the release; fails unless TAG, Cargo.toml and
#                                               CHANGELOG.md name one version.
# tools/release.sh archive IMAGE TAG FOLDER     takes the program, its libraries and their licences out of IMAGE, as an archive
#                                               with its SHA-256 in FOLDER.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    echo "usage: tools/release.sh notes TAG | archive IMAGE TAG FOLDER" >&2
    exit 2
}

notes() { # TAG
    local version text
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    if [ "$1" != "v$version" ]; then
        echo "tools/release.sh: the tag is $1, and Cargo.toml has the version $version" >&2
        exit 1
    fi
    text=$(awk -v heading="## [$version]" 'index($0, "## ") == 1 { inside = index($0, heading) == 1; next } inside' CHANGELOG.md)
    if [ -z "${text//[[:space:]]/}" ]; then
        echo "tools/release.sh: CHANGELOG.md says nothing under ## [$version]" >&2
        exit 1
    fi
    printf '%s\n' "$text"
}

archive() { # IMAGE TAG FOLDER
    local name=semblance-${2#v}-x86_64-linux container
    mkdir -p "$3/$name"
    container=$(docker create "$1")
    docker cp --quiet "$container:/opt/semblance/." "$3/$name"
    docker rm "$container" >/dev/null
    tar --create --gzip --file "$3/$name.tar.gz" --directory "$3" --owner=0 --group=0 --sort=name "$name"
    rm -r "${3:?}/$name"
    (cd "$3" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
}

case "${1:-} $#" in
"notes 2") notes "$2" ;;
"archive 4") archive "$2" "$3" "$4" ;;
*) usage ;;
esac
