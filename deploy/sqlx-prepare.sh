#!/usr/bin/env bash
# Describes each query to the compiler in .sqlx/, so that a fresh clone builds without a database. After a change to a
# query or a migration, run it (`make sqlx`) and commit the files.
#
#   deploy/with-postgres.sh deploy/sqlx-prepare.sh            renew .sqlx
#   deploy/with-postgres.sh deploy/sqlx-prepare.sh --check    fail if .sqlx is not up to date; change nothing
#
# It needs psql beside the server.
set -euo pipefail
cd "$(dirname "$0")/.."

admin=${LAMINA_TEST_DATABASE_URL:?run under deploy/with-postgres.sh, or point it at a server}
name=lamina_prepare_$$
psql --quiet "$admin" --command "create database $name"
stop() { psql --quiet "$admin" --command "drop database $name with (force)"; }
trap stop EXIT
# The path of a URL names the database; its query, if there is one, stays.
url=$(sed -E "s#^([a-z]+://[^/?]*)/?[^?]*#\1/$name#" <<<"$admin")
# One query reads the table in which the migrations are counted, so that table belongs to the schema.
psql --quiet --set ON_ERROR_STOP=1 "$url" --command "create table _sqlx_migrations (
    version bigint primary key, description text not null, installed_on timestamptz not null default now(),
    success boolean not null, checksum bytea not null, execution_time bigint not null)"
for file in migrations/*.sql; do psql --quiet --set ON_ERROR_STOP=1 "$url" --file "$file"; done

# The files are written to a folder beside .sqlx, which then takes its place: a query that fails leaves .sqlx alone.
fresh=$(mktemp -d "$PWD/.sqlx.XXXXXX")
trap 'rm -rf "$fresh"; stop' EXIT
# Only a crate that is compiled again asks the database.
touch scheduler/src/lib.rs
SQLX_OFFLINE=false DATABASE_URL=$url SQLX_OFFLINE_DIR=$fresh \
    cargo check --package scheduler --all-targets --all-features
if [[ ${1:-} == --check ]]; then
    diff --recursive --brief .sqlx "$fresh" ||
        { echo "sqlx-prepare: .sqlx does not match the queries: run make sqlx and commit the result" >&2; exit 1; }
    echo "sqlx-prepare: .sqlx is up to date"
    exit
fi
rm -rf .sqlx
mv "$fresh" .sqlx
chmod 755 .sqlx
fresh=
echo "sqlx-prepare: $(find .sqlx -name 'query-*.json' | wc -l) queries"
