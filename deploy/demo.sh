#!/usr/bin/env bash
# Runs a small version of the main job from start to end: pre-LN against pre-LN with progressive layer dropping, with
# 12 blocks, two tasks and five seeds. It takes at most five minutes on two cores.
#
#   deploy/demo.sh [DATA]   DATA is a folder with corpus/, vocab/ and glue/ in the official layout, such as the one of
#                           `lamina data fetch`. Without it, the demo generates its data.
#
#   KEEP=1         leaves the service running at the end
#   LAMINA_CACHE   the folder in which the demo makes its home (default: ~/.cache/lamina)
#   DEMO_PORT      the port of the service (default: 8650, or any free port if that one is taken)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${1:-${LAMINA_DATA:-}}
folder=${LAMINA_CACHE:-${HOME:?is not set, and neither is LAMINA_CACHE}/.cache/lamina}/demo
port=${DEMO_PORT:-8650}
log=$folder/up.log
# The commands below read these variables. They must not reach another service that the caller's environment names.
unset LAMINA_URL LAMINA_TOKEN LAMINA_TOKEN_FILE LAMINA_BIND LAMINA_SLOTS LAMINA_TRAINER LAMINA_DATA_ROOT
# A database of other tables cannot be used. The home of an earlier checkout stays as it is, and this one gets its own.
tables=$(cat "$root"/migrations/*.sql | sha256sum | cut -c 1-8)
export LAMINA_HOME=$folder/home-$tables
PATH=$root/target/release:$PATH

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[[ -t 1 ]] || say() { printf '\n%s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

service=
watching=
stop() {
    local status=$?
    trap - EXIT
    if ((status != 0 && status < 128)); then
        local file
        for file in "$log" "$LAMINA_HOME"/log/server.log "$LAMINA_HOME"/log/agent.log; do
            if [[ -s $file ]]; then printf '\n--- the end of %s\n' "$file"; tail -n 15 "$file"; fi
        done >&2
    fi
    if [[ -n $watching ]]; then kill "$watching" 2>/dev/null || true; fi
    if [[ -n $service ]] && { ((status != 0)) || [[ -z ${KEEP:-} ]]; }; then
        kill -TERM "$service" 2>/dev/null || true
        wait "$service" || true
    fi
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for program in lamina lamina-trainer; do
    [[ -x $root/target/release/$program ]] || die "target/release/$program is missing; run make release first"
done
[[ -z $data || -d $data ]] || die "$data is not a folder; give a folder with corpus/, vocab/ and glue/"
mkdir -p "$folder"
exec 9>"$folder/lock"
flock --nonblock 9 || die "another demo is running in $folder; wait for it, or name another folder with LAMINA_CACHE"

answers() { lamina nodes >/dev/null 2>&1; }

if answers; then
    say "The service of an earlier demo is still running; this demo uses it"
else
    say "Starting the service: Postgres, server, agent"
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then port=0; fi
    # The service runs in a session of its own, so that Ctrl-C reaches only this script, which then stops the service in
    # order.
    setsid lamina up --bind "127.0.0.1:$port" --slots 2 ${data:+--data-root "$data"} >"$log" 2>&1 9>&- &
    service=$!
    until grep -q 'is running' "$log"; do
        kill -0 "$service" 2>/dev/null || die "the service did not start; its log follows"
        sleep 0.1
    done
fi
url=$(<"$LAMINA_HOME/url")
printf 'dashboard %s, token in %s\n' "$url" "$LAMINA_HOME/token"

if [[ -n $data ]]; then
    say "Registering the data in $data"
    corpora=("$data"/corpus/wiki-00.txt* "$data"/corpus/*.txt*)
    vocabularies=("$data"/vocab/bert-base-uncased-vocab.txt "$data"/vocab/*.txt)
    for corpus in "${corpora[@]}"; do if [[ -f $corpus ]]; then break; fi; done
    for vocabulary in "${vocabularies[@]}"; do if [[ -f $vocabulary ]]; then break; fi; done
    [[ -f $corpus && -f $vocabulary && -d $data/glue ]] || die "$data needs all of corpus/*.txt*, vocab/*.txt and glue/"
    lamina data import "$corpus" --kind corpus --name demo-text
    lamina data import "$vocabulary" --kind vocabulary --name demo-words
    lamina data import "$data/glue" --kind glue --name demo-glue
    what="real text, GLUE" text=demo-text words=demo-words glue=demo-glue tasks='"rte", "mrpc"'
    pretrain='"steps": 400, "batch": 16, "length": 64, "validate_every": 50,
        "learning_rate": {"peak": 1e-3, "warmup": 0.1}'
    finetune='"epochs": 1, "batch": 32, "length": 64, "learning_rates": [3e-4]'
else
    say "Generating data (for real data, use: make demo DATA=folder)"
    lamina data generate
    lamina data import "$LAMINA_HOME/data/generated"
    what="generated data" text=generated-text words=generated-words glue=generated-glue tasks='"sst-2", "rte"'
    # Generated sentences are short. With longer sequences, a model of this size takes far longer to learn the positions
    # of the words.
    pretrain='"steps": 1500, "batch": 32, "length": 16, "validate_every": 100,
        "learning_rate": {"peak": 2e-3, "warmup": 0.1}'
    finetune='"epochs": 4, "batch": 16, "length": 32, "learning_rates": [3e-4]'
fi

# The jobs that an interrupted demo left behind would delay this one.
lamina jobs | awk '$0 ~ / (queued|running) / { print $1 }' | while read -r job; do lamina cancel "$job"; done

say "Training: 2 arms, 2 tasks, 5 seeds"
job=$folder/job.json
cat >"$job" <<JSON
{
  "name": "demo: $what",
  "model": {"blocks": 12, "hidden": 64, "heads": 2, "intermediate": 256},
  "corpus": "$text",
  "vocabulary": "$words",
  "pretrain": {$pretrain},
  "arms": [
    {"name": "pre-ln"},
    {"name": "pld", "layer_drop": {"schedule": "exponential", "theta_limit": 0.5}}
  ],
  "baseline": "pre-ln",
  "glue": {"dataset": "$glue", "tasks": [$tasks], "seeds": 5, $finetune}
}
JSON
lamina submit "$job" --watch 9>&- &
watching=$!
wait -n ${service:+"$service"} "$watching" && status=0 || status=$?
if kill -0 "$watching" 2>/dev/null; then die "the service ended before the job did; its logs follow"; fi
((status == 0)) || exit "$status"

if [[ -n $data ]]; then
    printf '\nReal tasks need more training than this. The full job, on what lamina data fetch downloads: lamina submit %q\n' \
        "$root/examples/jobs/main.json"
fi
say "The dashboard of this job: $url"
if [[ -n ${KEEP:-} ]]; then
    echo "The service keeps running; stop it with: kill $(<"$LAMINA_HOME/lock")"
else
    echo "Show the results again with: $root/target/release/lamina up --home $LAMINA_HOME"
fi
say "$(lamina report --sentence)"
