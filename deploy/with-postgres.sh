#!/usr/bin/env bash
# Runs a command with a Postgres of its own, in a temporary folder, without TCP, and removes both afterwards:
#
#   deploy/with-postgres.sh cargo nextest run
#
# The command finds the server in LAMINA_TEST_DATABASE_URL, as a role that may create databases. A DATABASE_URL or
# LAMINA_TEST_DATABASE_URL in the environment is used instead.
set -euo pipefail

if [[ -n ${LAMINA_TEST_DATABASE_URL:-${DATABASE_URL:-}} ]]; then
    export LAMINA_TEST_DATABASE_URL=${LAMINA_TEST_DATABASE_URL:-$DATABASE_URL}
    exec "$@"
fi

bin=$(for folder in ${PATH//:/ } /usr/lib/postgresql/*/bin; do
    if [[ -x $folder/initdb && -x $folder/postgres ]]; then echo "$folder" && break; fi
done)
[[ -n $bin ]] || { echo "with-postgres: no Postgres server found; run make setup, or set DATABASE_URL" >&2; exit 1; }

# The path is short because the path of a socket may have at most 107 bytes.
folder=$(mktemp -d /tmp/lamina-pg.XXXXXX)
as=()
if ((EUID == 0)); then
    # Postgres refuses to run as root.
    chmod 711 "$folder"
    install -d -m 0700 -o nobody -g "$(id -gn nobody)" "$folder/data" "$folder/socket"
    as=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups --inh-caps=-all)
else
    mkdir -m 0700 "$folder/data" "$folder/socket"
fi

server=
stop() {
    if [[ -n $server ]]; then
        kill -INT "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    rm -rf "$folder"
}
trap stop EXIT

home=$PWD
cd /
"${as[@]}" "$bin/initdb" -D "$folder/data" -U lamina --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
    >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
# The data need not survive the run, so nothing has to reach the disk.
"${as[@]}" "$bin/postgres" -D "$folder/data" -c listen_addresses= -c unix_socket_directories="$folder/socket" \
    -c fsync=off -c max_connections=300 >>"$folder/log" 2>&1 &
server=$!
cd "$home"

for _ in $(seq 200); do
    if [[ -S $folder/socket/.s.PGSQL.5432 ]]; then break; fi
    kill -0 "$server" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.05
done

export LAMINA_TEST_DATABASE_URL="postgres:///postgres?host=$folder/socket&user=lamina"
"$@"
