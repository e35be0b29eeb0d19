#!/usr/bin/env bash
# The main job from start to end, small: pre-LN against pre-LN with progressive layer dropping, 12 blocks, two tasks,
# five seeds, at most five minutes on two cores.
#
#   deploy/demo.sh [DATA]   DATA: a folder with corpus/, vocab/ and glue/ (the official layout); generated data otherwise
#
#   KEEP=1         leave the service running at the end
#   LAMINA_CACHE   where the demo's home lies (default: ~/.cache/lamina)
#   DEMO_PORT      where the service listens (default: 8650; a free port when that is taken)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${1:-${LAMINA_DATA:-}}
folder=${LAMINA_CACHE:-${HOME:?is not set, and neither is LAMINA_CACHE}/.cache/lamina}/demo
port=${DEMO_PORT:-8650}
log=$folder/up.log
# What the commands below read: never a service of somebody else's environment.
unset LAMINA_URL LAMINA_TOKEN LAMINA_TOKEN_FILE LAMINA_BIND LAMINA_SLOTS LAMINA_TRAINER LAMINA_DATA_ROOT
export LAMINA_HOME=$folder/home
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
[[ -z $data || -d $data ]] || die "$data is no folder"
mkdir -p "$folder"
exec 9>"$folder/lock"
flock --nonblock 9 || die "another demo is running in $folder; wait for it, or name another folder with LAMINA_CACHE"

answers() { lamina nodes >/dev/null 2>&1; }

if answers; then
    say "A service from an earlier demo is running; using it"
else
    say "Starting the service: Postgres, server, agent"
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then port=0; fi
    # In a session of its own, so that Ctrl-C reaches this script alone, which then stops it in good order.
    setsid lamina up --bind "127.0.0.1:$port" --slots 2 ${data:+--data-root "$data"} >"$log" 2>&1 9>&- &
    service=$!
    until grep -q 'is running' "$log"; do
        kill -0 "$service" 2>/dev/null || die "the service did not start"
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
    [[ -f $corpus && -f $vocabulary && -d $data/glue ]] || die "$data needs corpus/*.txt*, vocab/*.txt and glue/"
    lamina data import "$corpus" --kind corpus --name demo-text
    lamina data import "$vocabulary" --kind vocabulary --name demo-words
    lamina data import "$data/glue" --kind glue --name demo-glue
    what="real text, GLUE" text=demo-text words=demo-words glue=demo-glue tasks='"rte", "mrpc"'
    pretrain='"steps": 400, "batch": 16, "length": 64, "validate_every": 50, "learning_rate": {"peak": 1e-3, "warmup": 0.1}'
    finetune='"epochs": 1, "batch": 32, "length": 64, "learning_rates": [3e-4]'
else
    say "Generating data (give real data with: make demo DATA=folder)"
    lamina data generate
    lamina data import "$LAMINA_HOME/data/generated"
    what="generated data" text=generated-text words=generated-words glue=generated-glue tasks='"sst-2", "rte"'
    # Sentences are short; with longer sequences so small a model takes far longer to learn where words stand.
    pretrain='"steps": 1500, "batch": 32, "length": 16, "validate_every": 100, "learning_rate": {"peak": 2e-3, "warmup": 0.1}'
    finetune='"epochs": 4, "batch": 16, "length": 32, "learning_rates": [3e-4]'
fi

# What an interrupted demo has left would only hold this one up.
lamina jobs | awk '$0 ~ / (queued|running) / { print $1 }' | while read -r left; do lamina cancel "$left"; done

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
  "glue": {"dataset": "$glue", "tasks": [$tasks], "seeds": 5, $finetune},
  "timing": {"rounds": 8, "steps_per_turn": 10, "warmup_steps": 2}
}
JSON
lamina submit "$job" --watch 9>&- &
watching=$!
wait -n ${service:+"$service"} "$watching" && status=0 || status=$?
if kill -0 "$watching" 2>/dev/null; then die "the service ended before the job did"; fi
((status == 0)) || exit "$status"

if [[ -n $data ]]; then
    printf '\nReal tasks need more than these minutes to be learnt: lamina data import %q; lamina submit %q\n' \
        "$data" "$root/examples/main-job.json"
fi
say "The dashboard of this job: $url"
if [[ -n ${KEEP:-} ]]; then
    echo "The service goes on; stop it with: kill $(<"$LAMINA_HOME/lock")"
else
    echo "Look again with: $root/target/release/lamina up --home $LAMINA_HOME"
fi
