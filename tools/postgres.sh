#!/usr/bin/env bash
# tools/postgres.sh run COMMAND...       runs COMMAND with a PostgreSQL of its own and answers COMMAND's status.
# tools/postgres.sh durable COMMAND...   the same with one that waits for its disk, as in production, for benchmarks.
#
# The cluster lives in a temporary folder, listens on a free port of 127.0.0.1, trusts whoever reaches it and is gone when
# COMMAND has ended. COMMAND finds it in SEMBLANCE_TEST_POSTGRES_URL (durable: SEMBLANCE_BENCH_POSTGRES_URL, and PostgreSQL's
# programs on its PATH); where that is set already, COMMAND just runs.
# Without PostgreSQL on the machine, root gets Debian's package; anyone else is told, and COMMAND runs without the variable.
set -euo pipefail

main() {
    case "${1:-}" in
    run) variable=SEMBLANCE_TEST_POSTGRES_URL careless="-c fsync=off -c synchronous_commit=off -c full_page_writes=off" ;;
    durable) variable=SEMBLANCE_BENCH_POSTGRES_URL careless="" ;;
    *) variable="" ;;
    esac
    if [ -z "$variable" ] || [ $# -lt 2 ]; then
        echo "usage: tools/postgres.sh run|durable COMMAND..." >&2
        exit 2
    fi
    shift
    if [ -z "${!variable:-}" ]; then
        if find_binaries || { install_package && find_binaries; }; then
            start_cluster
        else
            echo "tools/postgres.sh: there is no PostgreSQL for this command: $why_not" >&2
        fi
    fi
    # Not exec: the cluster must be stopped afterwards, whatever the status is.
    local status=0
    "$@" || status=$?
    exit "$status"
}

# Sets bin to the folder with the server's programs, the newest version first.
find_binaries() {
    local folder
    for folder in "$(dirname "$(command -v initdb || echo /none/initdb)")" \
        $(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort --reverse); do
        if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && [ -x "$folder/postgres" ]; then
            bin=$folder
            return 0
        fi
    done
    why_not="no PostgreSQL server is installed"
    return 1
}

# Installs Debian's server, without the cluster that the package would make and start by itself.
install_package() {
    if ! command -v apt-get >/dev/null; then
        why_not="no PostgreSQL server is installed, and there is no apt-get to install one with"
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        why_not="no PostgreSQL server is installed, and only root may install it (apt-get install postgresql)"
        return 1
    fi
    echo "tools/postgres.sh: installing Debian's PostgreSQL for the tests (once)" >&2
    local rules=/etc/postgresql-common/createcluster.d failed=""
    mkdir -p "$rules"
    echo "create_main_cluster = false" >"$rules/semblance.conf"
    { apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; } >&2 || failed=yes
    rm -f "$rules/semblance.conf"
    rmdir --ignore-fail-on-non-empty "$rules"
    if [ -n "$failed" ]; then
        why_not="no PostgreSQL server is installed, and apt-get could not install it"
        return 1
    fi
}

# PostgreSQL refuses to run as root: root becomes somebody who may do less.
as_owner() { (cd "$home" && if [ "$(id -u)" = 0 ]; then runuser -u "$owner" -- "$@"; else "$@"; fi); }

start_cluster() {
    # Not TMPDIR for root: the unprivileged owner must be able to reach the folder.
    if [ "$(id -u)" = 0 ]; then home=$(mktemp -d /tmp/semblance-postgres.XXXXXX); else home=$(mktemp -d -t semblance-postgres.XXXXXX); fi
    trap stop_cluster EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if id postgres >/dev/null 2>&1; then owner=postgres; else owner=nobody; fi
    if [ "$(id -u)" = 0 ]; then chown "$owner" "$home"; fi

    # Sorting by American English, as many hosted databases do: a query that forgot to ask for byte order shows here.
    local sorting=(--encoding=UTF8 --locale-provider=icu --icu-locale=en-US --locale=C)
    if ! as_owner "$bin/initdb" --help | grep -q -e --icu-locale; then sorting=(--encoding=UTF8 --locale=C); fi
    if ! as_owner "$bin/initdb" --pgdata="$home/data" --username=postgres --auth=trust --no-sync --no-instructions \
        "${sorting[@]}" >"$home/initdb.log" 2>&1; then
        echo "tools/postgres.sh: initdb failed:" >&2
        cat "$home/initdb.log" >&2
        exit 1
    fi

    # A port may be taken between choosing and listening, so the server itself is the judge.
    local port
    for _ in 1 2 3 4 5 6 7 8; do
        port=$((RANDOM % 12000 + 20000)) # below the range that the kernel lends to outgoing connections
        if as_owner "$bin/pg_ctl" start --silent --wait --pgdata="$home/data" --log="$home/server.log" --options="\
            -c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories='' -c max_connections=200 \
            $careless" >/dev/null 2>&1; then
            export "$variable=postgres://postgres@127.0.0.1:$port/postgres"
            if [ -z "$careless" ]; then PATH=$bin:$PATH; fi
            return
        fi
    done
    echo "tools/postgres.sh: the server does not start:" >&2
    tail -n 20 "$home/server.log" >&2
    exit 1
}

# shellcheck disable=SC2317,SC2329  # the trap calls it
stop_cluster() {
    # The lock file is there from the first moment of a start to the last of a stop.
    if [ -e "$home/data/postmaster.pid" ]; then
        as_owner "$bin/pg_ctl" stop --silent --mode=immediate --pgdata="$home/data" >/dev/null 2>&1 || true
    fi
    rm -rf "$home"
}

main "$@"
