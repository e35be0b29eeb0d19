#!/usr/bin/env bash
# Writes what the compiler needs to know about each query into .sqlx/, so that a fresh clone builds without a database:
#
#   deploy/with-postgres.sh deploy/sqlx-prepare.sh
#
# Run it after a change to a query or a migration, and commit what it wrote. It needs psql beside the server.
set -euo pipefail
cd "$(dirname "$0")/.."

admin=${LAMINA_TEST_DATABASE_URL:?run under deploy/with-postgres.sh, or point it at a server}
name=lamina_prepare_$$
psql --quiet "$admin" --command "create database $name"
stop() { psql --quiet "$admin" --command "drop database $name with (force)"; }
trap stop EXIT
# The path of a URL is the database; its query, if any, stays.
url=$(sed -E "s#^([a-z]+://[^/?]*)/?[^?]*#\1/$name#" <<<"$admin")
# The runner's own table is part of the schema that the queries are checked against.
psql --quiet --set ON_ERROR_STOP=1 "$url" --command "create table _sqlx_migrations (
    version bigint primary key, description text not null, installed_on timestamptz not null default now(),
    success boolean not null, checksum bytea not null, execution_time bigint not null)"
for file in migrations/*.sql; do psql --quiet --set ON_ERROR_STOP=1 "$url" --file "$file"; done

# Written beside and then exchanged, so that a query that fails to check leaves the old data alone.
fresh=$(mktemp -d "$PWD/.sqlx.XXXXXX")
trap 'rm -rf "$fresh"; stop' EXIT
# The macros look at the database only when they are expanded anew.
touch scheduler/src/lib.rs
SQLX_OFFLINE=false DATABASE_URL=$url SQLX_OFFLINE_DIR=$fresh cargo check --package scheduler --all-targets --all-features
rm -rf .sqlx
mv "$fresh" .sqlx
chmod 755 .sqlx
fresh=
echo "sqlx-prepare: $(find .sqlx -name 'query-*.json' | wc -l) queries"
