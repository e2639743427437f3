#!/bin/sh
# The proofs of docs/DURABILITY.md with larger counts than tests/run.sh can afford, and their results as JSON.
#
#   tests/campaign.sh              about an hour on two cores; writes docs/campaign.json
#   tests/campaign.sh --short      a few minutes, to see it work
#   tests/campaign.sh --long       a million seeds of each simulation, thousands of kills: a day or more
#   tests/campaign.sh --out FILE   the results go there
#
# Each proof prints its seed; HOLDOVER_SEED=n repeats it. Exits 1 when one fails, after all have run.
set -eu
cd "$(dirname "$0")/.."

size=default
out=docs/campaign.json
while [ $# -gt 0 ]; do
    case $1 in
    --short) size=short ;;
    --long) size=long ;;
    --out)
        [ $# -gt 1 ] || { echo "tests/campaign.sh: --out needs a file" >&2; exit 2; }
        out=$2
        shift
        ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *)
        echo "tests/campaign.sh: unknown argument $1 (see --help)" >&2
        exit 2
        ;;
    esac
    shift
done

# count SHORT DEFAULT LONG
count() {
    case $size in
    short) echo "$1" ;;
    default) echo "$2" ;;
    long) echo "$3" ;;
    esac
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
failed=0
: >"$dir/proofs"

# proof NAME VARIABLE COUNT TARGET TEST PATTERN: runs one test with VARIABLE=COUNT; PATTERN finds the line that tells its figures
proof() {
    began=$(date +%s)
    printf '%s, %s=%s ... ' "$1" "$2" "$3"
    code=0
    # shellcheck disable=SC2086
    env "$2=$3" cargo test --quiet --features schema,demo $4 -- --exact "$5" --nocapture >"$dir/said" 2>&1 || code=$?
    grep -q 'test result: ok. 1 passed' "$dir/said" || [ "$code" != 0 ] || code=1
    said=$(grep -E "$6" "$dir/said" | tail -n 1 || true)
    seed=$(grep -Eo 'HOLDOVER_SEED=[0-9]+' "$dir/said" | head -n 1 || true)
    took=$(($(date +%s) - began))
    if [ "$code" = 0 ]; then echo "ok, $took s: $said"; else
        failed=1
        echo "FAILED (exit code $code); it ends:"
        tail -n 30 "$dir/said"
    fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2=$3" "${seed:-}" "$code" "$took" "$5" "$said" >>"$dir/proofs"
}

cargo test --quiet --features schema,demo --no-run
cargo test --quiet --profile campaign --features schema,demo --lib --test integration --no-run
lib='--profile campaign --lib'
whole='--test integration'
fast='--profile campaign --test integration'

proof "crash states of the outbox" HOLDOVER_CRASH_SEEDS "$(count 4 230 23000)" "$lib" \
    outbox::tests::crash::no_crash_at_any_sync_point_loses_a_record_silently 'crash states judged'
proof "the whole way simulated" HOLDOVER_SEEDS "$(count 500 100000 1000000)" "$fast" \
    whole_sim::what_was_committed_arrives_or_is_declared_whatever_befalls_host_broker_and_hub ' seeds in .* a second'
proof "simulated uplink" HOLDOVER_SEEDS "$(count 500 100000 1000000)" "$fast" \
    uplink_sim::uplink_keeps_its_promises_whatever_broker_outbox_and_clock_do '^Summary'
proof "kills of the agent" HOLDOVER_KILLS "$(count 20 1000 10000)" "$whole" \
    scenarios::agent_kills::committed_records_survive_a_hundred_kills ' kills, '
proof "kills of agent, broker and hub" HOLDOVER_ANY_KILLS "$(count 30 2000 20000)" "$whole" \
    scenarios::any_kills::whoever_is_killed_every_record_is_stored_once 'kills of the agent'
proof "a kill at every n-th sync" HOLDOVER_SYNC_KILLS "$(count 20 100 300)" "$whole" \
    scenarios::sync_kills::kill_at_every_nth_sync_loses_nothing ' kills, '

python3 - "$dir/proofs" "$out" "$size" <<'PYTHON'
import json, os, subprocess, sys, time
proofs, out, size = sys.argv[1:]
git = lambda *words: subprocess.run(["git", *words], capture_output=True, text=True).stdout.strip()
keys = ["proof", "asked", "seed", "exit_code", "seconds", "test", "said"]
rows = [dict(zip(keys, line.rstrip("\n").split("\t"))) for line in open(proofs)]
for row in rows:
    row["exit_code"], row["seconds"] = int(row["exit_code"]), int(row["seconds"])
    row["seed"] = row["seed"].partition("=")[2] or None
report = {
    "commit": git("rev-parse", "HEAD"),
    "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
    "size": size,
    "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    "cores": os.cpu_count(),
    "proofs": rows,
}
with open(out, "w") as file:
    json.dump(report, file, indent=2)
    file.write("\n")
PYTHON
echo "written: $out"
exit "$failed"
