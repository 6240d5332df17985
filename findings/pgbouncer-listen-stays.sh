#!/usr/bin/env bash
# PgBouncer 1.18.0, pool_mode = transaction: LISTEN of one client stays on the session, and another client gets the notice.
# Needs Debian 12 for the package, and PostgreSQL, which tools/postgres.sh starts for the run.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
apt-get download -qq -o APT::Sandbox::User=root pgbouncer=1.18.0-1+deb12u1 libc-ares2 libevent-2.1-7
for package in ./*.deb; do dpkg -x "$package" tree; done

cat >inner.sh <<'INNER'
set -euo pipefail
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin | tail -1)
server=$(sed 's|.*@\([^/]*\)/.*|\1|' <<<"$SEMBLANCE_TEST_POSTGRES_URL")
port=$((21000 + RANDOM % 9000))
cat >pgbouncer.ini <<INI
[databases]
* = host=${server%:*} port=${server#*:} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = transaction
pidfile = $PWD/pid
INI
runs_as=()
if [ "$(id -u)" = 0 ]; then
    chown -R postgres . && runs_as=(runuser -u postgres --)
fi
LD_LIBRARY_PATH=$(dirname "$(find tree -name 'libevent-2.1.so.7')") \
    "${runs_as[@]}" tree/usr/sbin/pgbouncer --quiet --daemon "$PWD/pgbouncer.ini"
client() { psql --no-psqlrc --quiet --tuples-only --no-align "postgres://postgres@127.0.0.1:$port/postgres" "$@" 2>&1; }
for _ in $(seq 50); do client --command "SELECT 1" >/dev/null && break || sleep 0.1; done

client --command "LISTEN news"
echo "one client listened, and is gone"
listening=$(client --command "SELECT pg_listening_channels()")
echo "another client, which never listened, listens to: $listening"
notified=$(client --command "NOTIFY news, 'hello'")
echo "and after its own NOTIFY it reads: $notified"
[ "$listening" = news ] || { echo "LISTEN no longer stays" >&2; exit 1; }
case $notified in *hello*) ;; *) echo "the notice no longer arrives" >&2; exit 1 ;; esac
INNER
"$root/tools/postgres.sh" run bash inner.sh
