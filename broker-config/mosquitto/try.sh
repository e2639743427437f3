#!/bin/sh
# Shows the whole line on this machine: a throw-away mosquitto with TLS and client certificates, the agent with this
# host's metrics, and `holdover-hub tail`. Everything lives in a temporary directory and on a free port of 127.0.0.1,
# and is gone afterwards. Stop it with Ctrl-C.
#
#   try.sh                          this host's data in a live table, as a subscriber sees them
#   try.sh --outage [SECONDS]       takes the broker away for so long (20), brings it back, and proves that nothing is
#                                   missing; exits 0 only then
#   try.sh --for DURATION           the first, ending by itself: `--for 30s`
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

outage=
span=
while [ $# -gt 0 ]; do
    case $1 in
    --outage)
        outage=20
        case ${2:-} in '' | *[!0-9]*) ;; *) outage=$2; shift ;; esac
        ;;
    --for)
        [ $# -ge 2 ] || usage
        span=$2
        shift
        ;;
    *) usage ;;
    esac
    shift
done

say() {
    if [ -t 2 ]; then printf '\n\033[1m>> %s\033[0m\n' "$1" >&2; else printf '\n>> %s\n' "$1" >&2; fi
}

fail() {
    for log in agent tail mosquitto; do
        [ ! -s "${work:-}/$log.log" ] || { say "the end of the $log's log"; tail -n 5 "$work/$log.log" >&2; }
    done
    say "FAILED: $1"
    exit 1
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds
wait_for() {
    patience=$(($1 * 5)) awaited=$2
    shift 2
    until "$@"; do
        patience=$((patience - 1))
        [ $patience -gt 0 ] || fail "waited in vain for $awaited"
        sleep 0.2
    done
}

# exit_of PID: its exit code in $code; a signal to this script does not cut the waiting short
exit_of() {
    while :; do
        code=0
        wait "$1" || code=$?
        kill -0 "$1" 2>/dev/null || return 0
    done
}

# --- what is needed ---------------------------------------------------------------------------------------------

PATH=$PATH:/usr/sbin:/sbin
missing=
command -v mosquitto >/dev/null || missing="$missing mosquitto"
command -v openssl >/dev/null || missing="$missing openssl"
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "try.sh: missing:$missing; on Debian, as root: apt-get install --no-install-recommends$missing" >&2
        exit 69
    fi
    say "installing Debian's packages:$missing"
    policy=/usr/sbin/policy-rc.d
    # The package would start a broker of its own on port 1883.
    made=
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=yes; }
    apt-get update -qq || true
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    [ -z "$made" ] || rm -f $policy
fi

say "building (a first build takes a few minutes)"
quiet=--quiet
[ ! -t 2 ] || quiet=
cargo build $quiet --manifest-path "$root/Cargo.toml" --bins
bin=${CARGO_TARGET_DIR:-$root/target}/debug

# --- broker, agent, subscriber ----------------------------------------------------------------------------------

work=$(mktemp -d)
broker= agent= tail=
cleanup() {
    trap - EXIT HUP INT TERM
    for pid in $tail $agent $broker; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# A Ctrl-C is for this script and the subscriber; the others are stopped after it has summed up.
apart=$(command -v setsid || true)

# mosquitto gives up root after its start and must still reach its files.
chmod 755 "$work"
mkdir "$work/data" "$work/outbox"
[ "$(id -u)" != 0 ] || chown mosquitto "$work/data"
host=$(uname -n | tr -c 'A-Za-z0-9_\n-' - | cut -c1-58)
# Names that other certificates have here.
case $host in '' | ca | server | hub | viewer) host=host-$host ;; esac
say "a certificate authority, and certificates for the broker, the host $host and a viewer"
for args in "server localhost" "client $host" "client viewer"; do
    # shellcheck disable=SC2086
    "$here/lab-ca.sh" "$work/lab" $args >&2
done
cp "$here/acl" "$work/lab/acl"

broker_answers() {
    ! kill -0 "$broker" 2>/dev/null || grep -q 'mosquitto version .* running' "$work/mosquitto.log"
}

start_broker() {
    $apart mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
    broker=$!
    wait_for 10 "mosquitto to start" broker_answers
    kill -0 "$broker" 2>/dev/null
}

# A free port: mosquitto tries, the next one if it ends at once.
port=18883
while :; do
    sed -e "s#/etc/mosquitto/holdover/#$work/lab/#" -e "s#/var/lib/mosquitto/#$work/data/#" \
        -e "s/^listener 8883\$/listener $port 127.0.0.1/" "$here/mosquitto.conf" >"$work/mosquitto.conf"
    # So that it says when it is up.
    echo 'log_type information' >>"$work/mosquitto.conf"
    ! start_broker || break
    port=$((port + 1))
    [ $port -lt 18983 ] || { cat "$work/mosquitto.log" >&2; fail "mosquitto does not start"; }
done
say "mosquitto with TLS and client certificates on 127.0.0.1:$port ($here/mosquitto.conf and acl)"

cat >"$work/holdover.toml" <<CONFIG
[host]
id = "$host"
site = "try"
[broker]
url = "mqtts://localhost:$port"
ca = "$work/lab/ca.crt"
cert = "$work/lab/$host.crt"
key = "$work/lab/$host.key"
[outbox]
dir = "$work/outbox"
max_bytes = "64MiB"
[uplink]
reconnect_max = "3s"
CONFIG
# More often than the usual 10 s, so that there is something to see at once.
for name in cpu memory load disks network; do
    printf '[[collector]]\nname = "%s"\nevery = "2s"\n' $name
done >>"$work/holdover.toml"
say "the agent's configuration"
sed 's/^/    /' "$work/holdover.toml" >&2

# For a subshell of its own, whose process it takes, so that a signal reaches it.
exec_tail() {
    exec "$bin/holdover-hub" tail --broker "mqtts://localhost:$port" --ca "$work/lab/ca.crt" \
        --cert "$work/lab/viewer.crt" --key "$work/lab/viewer.key" "$@"
}

somebody_listens() { grep -q ' as viewer ' "$work/mosquitto.log"; }

# An agent keeps its records until somebody listens, and then asks only now and then: so it is started after that.
start_agent() {
    (
        until somebody_listens; do sleep 0.1; done
        exec $apart "$bin/holdover" run --config "$work/holdover.toml" 2>>"$work/agent.log"
    ) &
    agent=$!
}

# --- what is shown ----------------------------------------------------------------------------------------------

if [ -z "$outage" ]; then
    say "Next: this host's metrics as a subscriber sees them. At the top one line for each host, here $host: whether it
   is online, how many records came, duplicates, gaps, declared losses, and what it has not yet delivered
   (BACKLOG, 0 as long as the broker is there). Below it the records as they come. Ctrl-C ends it."
    [ ! -t 1 ] || sleep 3
    start_agent
    (exec_tail ${span:+--for "$span"}) &
    tail=$!
    trap 'kill "$tail" 2>/dev/null || true' INT
    exit_of "$tail"
    tail=
    say "the last words of the agent's log"
    tail -n 3 "$work/agent.log" >&2
    say "that was $host through its outbox and mosquitto to a subscriber; all of it is removed again"
    exit $code
fi

# status KEY: a number of the agent's status
status() {
    "$bin/holdover" status --json --config "$work/holdover.toml" 2>/dev/null |
        sed -n "s/.*\"status\":{.*\"$1\":\([0-9]*\).*/\1/p"
}
backlog_is_empty() { [ "$(status backlog)" = 0 ]; }
tail_listens() { grep -q 'listening on' "$work/tail.log"; }
records_came() { [ "$(grep -c '"type":"record"' "$work/received.ndjson")" -ge "$1" ]; }
record_came() { grep -q "\"type\":\"record\".*\"seq\":$1," "$work/received.ndjson"; }

watch_backlog() {
    for _ in $(seq "$1"); do
        sleep 1
        [ ! -t 2 ] || printf '\r'
        printf '   backlog: %6s records' "$(status backlog)" >&2
        [ -t 2 ] || printf '\n' >&2
    done
    [ ! -t 2 ] || printf '\n' >&2
}

: >"$work/received.ndjson"
(exec_tail --json --fail-on-gap >"$work/received.ndjson" 2>"$work/tail.log") &
tail=$!
wait_for 20 "the subscriber" tail_listens
start_agent
wait_for 30 "the first 100 records" records_came 100
wait_for 20 "everything to be delivered" backlog_is_empty
say "normal operation: $(grep -c '"type":"record"' "$work/received.ndjson") records received, backlog 0"

say "the broker is stopped for $outage seconds; the agent goes on collecting"
kill "$broker"
exit_of "$broker"
broker=
watch_backlog "$outage"
kept=$(status backlog)
[ "${kept:-0}" -gt 0 ] || fail "the agent kept nothing during the outage"

say "the broker is back; $kept records wait and are sent beside the live ones"
start_broker || fail "mosquitto does not start again"
wait_for 40 "the backlog to be delivered" backlog_is_empty
last=$(($(status next_seq) - 1))
say "backlog 0: the broker has everything up to record $last"
wait_for 60 "record $last at the subscriber" record_came "$last"

kill "$agent"
exit_of "$agent"
agent=
[ "$code" = 0 ] || fail "the agent ended with $code"
kill "$tail"
exit_of "$tail"
tail=
say "the subscriber's own account, exit code $code (its last column is what the host last told, at a heartbeat)"
sed -n '/ records in .* messages /,$s/^/   /p' "$work/tail.log" >&2
[ "$code" = 0 ] || fail "something is missing"

# Counted again, from nothing but the sequence numbers in what it printed.
awk '/"type":"record"/ && match($0, /"seq":[0-9]+/) {
        seq = substr($0, RSTART + 6, RLENGTH - 6) + 0
        if (seq in seen) twice++; else { seen[seq] = 1; distinct++ }
        if (!low || seq < low) low = seq
        if (seq > high) high = seq
        if ($0 ~ /"lane":"history"/) late++
    }
    END {
        printf "   seq %d to %d: %d different records, %d of them by the history lane, %d came twice\n",
            low, high, distinct, late, twice
        exit !(distinct > 0 && high - low + 1 == distinct && late > 0)
    }' "$work/received.ndjson" >&2 || fail "the sequence numbers have a hole, or nothing was sent late"
say "PROVED: the broker was away for $outage s, $kept records waited in the outbox, and nothing is missing"
