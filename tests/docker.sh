#!/bin/sh
# The images, compose.yaml and the systemd unit of docker/: built, started and looked at.
#
# No image is fetched. assemble.sh builds the programs from what the build context lets through, and the final stages
# of the Dockerfiles are built as they are; for the images that would be fetched, Debian's mosquitto, openssl and shell
# stand in on an empty root. podman then runs the services with what compose.yaml says of them (tests/tools/compose.py),
# in one pod. Where no container can be run, the same root file systems run without one, and the test says so:
# HOLDOVER_ENGINE=bare asks for that.
#
# Needs root, and the packages that tests/run.sh names. Everything but target/ is gone afterwards: it happens in
# process, mount and network name spaces that end with this script, and in one temporary directory.
set -eu
cd "$(dirname "$0")/.."
here=$PWD/tests
PATH="$PATH:/usr/sbin:/sbin"
LC_ALL=C
export PATH LC_ALL

say() { printf 'docker: [%d s] %s\n' "$(($(date +%s) - began))" "$1"; }

die() {
    printf 'tests/docker.sh: %s\n' "$1" >&2
    exit 1
}

compose() { "$python" -B "$here/tools/compose.py" "$@"; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds
wait_for() {
    end=$(($(date +%s) + $1)) awaited=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || { tell_all; die "waited in vain for $awaited"; }
        sleep 0.2
    done
}

# --- outside: what is built, and name spaces that take everything with them ----------------------------------------

check_tools() {
    [ "$(id -u)" = 0 ] || die "needs root: the files of a container belong to several users"
    for tool in cargo podman runc catatonit musl-gcc mosquitto openssl python3 ip unshare setpriv systemd-analyze; do
        command -v $tool >/dev/null || die "$tool is missing (tests/run.sh names the packages)"
    done
    # A Python of one's own may not have what Debian's has.
    python=python3
    $python -c 'import yaml' 2>/dev/null || python=/usr/bin/python3
    $python -c 'import yaml' 2>/dev/null || die "the Python module yaml is missing (Debian: python3-yaml)"
    export python
    triple=$(uname -m)-unknown-linux-musl
    [ -d "$(rustc --print target-libdir --target "$triple")" ] || rustup target add "$triple" ||
        die "Rust's target $triple is missing: rustup target add $triple"
}

# The unit on a root where it is installed as it says. systemd itself ignores what it does not understand.
check_unit() {
    unit=$work/unit/etc/systemd/system/holdover.service
    install -D -m 755 "$work/out/agent/rootfs/holdover" "$work/unit/usr/local/bin/holdover"
    # What the unit names of the host; procps has it.
    install -D -m 755 /bin/kill "$work/unit/bin/kill"
    install -D -m 644 docker/systemd/holdover.service "$unit"
    systemd-analyze verify --man=no --recursive-errors=no --root="$work/unit" holdover.service >"$work/verdict" 2>&1 ||
        die "systemd does not understand the unit: $(cat "$work/verdict")"
    systemd-analyze security --offline=true --no-pager --threshold=25 "$unit" >"$work/verdict" 2>&1 ||
        die "the unit is exposed more than 2.5: $(cat "$work/verdict")"
    say "unit: $(tail -n 1 "$work/verdict")"
}

# What .dockerignore lets through, with its times, by which cargo knows what it has built.
copy_context() {
    mkdir "$work/context"
    sed -n 's/^!//p' .dockerignore | while read -r path; do cp -a --parents "$path" "$work/context"; done
}

# take ROOT PROGRAM...: an image's root with these programs, and the libraries that each needs
take() {
    into=$1
    shift
    for folder in bin sbin lib lib64; do
        mkdir -p "$into/usr/$folder"
        ln -s usr/$folder "$into/$folder"
    done
    for program in "$@"; do
        path=$(command -v "$program") || die "$program is missing"
        cp -L --parents "$path" "$into"
        ldd "$path" | grep -o '/[^ ]*' | while read -r library; do cp -L --parents "$library" "$into"; done
    done
}

build() {
    copy_context
    for service in agent hub; do
        program=holdover
        [ $service = agent ] || program=holdover-hub
        PROFILE=dev CARGO_TARGET_DIR=$target "$work/context/docker/assemble.sh" $program "$work/out/$service"
        say "$program: static, $(($(stat -c %s "$work/out/$service/rootfs/$program") >> 20)) MiB unstripped"
    done
    take "$work/base/broker" mosquitto grep
    take "$work/base/ca" sh basename cat chmod chown cmp cp cut dirname grep mkdir mktemp mv openssl rm tr
    cp -L --parents /usr/lib/ssl/openssl.cnf "$work/base/ca"
}

remove_everything() {
    trap - EXIT
    [ -z "${inside:-}" ] || kill -KILL "$inside" 2>/dev/null || true
    # The processes of the name space end a moment after its first.
    tries=50
    until rm -rf "$work" 2>/dev/null && remove_cgroups; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "cannot remove $work, or cgroups $cgroup"
        sleep 0.2
    done
}

remove_cgroups() {
    find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null || true
    [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "$cgroup*")" ]
}

if [ "${1:-}" != inside ]; then
    began=$(date +%s)
    check_tools
    target=$(realpath "${CARGO_TARGET_DIR:-target}")
    cgroup=holdover-test-$$
    work=$(mktemp -d)
    chmod 755 "$work"
    trap remove_everything EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    compose check
    build
    check_unit
    unshare --net --mount --propagation slave --pid --fork --kill-child --mount-proc \
        "$here/docker.sh" inside "$work" "$cgroup" "$began" &
    inside=$!
    code=0
    wait $inside || code=$?
    inside=
    remove_everything
    exit $code
fi

# --- inside: process 1 of its own name spaces ----------------------------------------------------------------------

work=$2 cgroup=$3 began=$4
ip link set lo up
# podman's locks and run-time state are the machine's otherwise.
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
# So that the machine has an interface that the containers do not have.
ip link add machine0 type veth peer name machine1

if [ "${HOLDOVER_ENGINE:-podman}" = podman ]; then
    . "$here/containers/podman.sh"
    if ! engine_begin; then
        say "podman cannot run a container here, as said above"
        HOLDOVER_ENGINE=bare
    fi
fi
if [ "${HOLDOVER_ENGINE:-podman}" = bare ]; then
    . "$here/containers/bare.sh"
    engine_begin
fi
say "$engine_says"

services=$(compose plan | sed -n 's/^start //p')

tell_all() {
    for service in $services; do
        printf -- '--- the end of what %s says\n' "$service" >&2
        engine_output "$service" 2>&1 | tail -n 8 | cut -c 1-300 >&2 || true
    done
}

up() {
    compose plan >"$work/plan"
    while read -r step service <&3; do
        case $step in
        run) engine_run "$service" >"$work/$service.log" 2>&1 || die "$service failed: $(cat "$work/$service.log")" ;;
        start) engine_start "$service" || die "$service does not start" ;;
        healthy) wait_for 30 "the health of $service" engine_healthy "$service" ;;
        esac
    done 3<"$work/plan"
    for service in $services; do wait_for 60 "the health of $service" engine_healthy "$service"; done
}

# leave SERVICE: stopped as it wants to be, and gone; its volumes stay
leave() {
    [ "$(engine_restarts "$1")" = 0 ] || { tell_all; die "$1 was started again: it had ended by itself"; }
    engine_stop "$1"
    [ "$code" = 0 ] || { tell_all; die "$1 ended with $code when it was stopped"; }
    engine_output "$1" >"$work/$1.log"
    engine_remove "$1"
}

down() { for service in $(compose plan | sed -n 's/^start //p' | tac); do leave "$service"; done; }

# --- what is looked at ---------------------------------------------------------------------------------------------

# status KEY: a value of the agent's status
status() {
    engine_inside agent /holdover status --json | sed -n "s/.*\"status\":{.*\"$1\":\"\\{0,1\\}\\([^,\"}]*\\).*/\\1/p"
}

hub_records() { cat "$(engine_volume records)"/records-*.ndjson; }
hub_has() { hub_records | grep '"type":"record"' | grep -q "$1"; }
hub_has_seq() { hub_records | grep -q "\"seq\":$1,"; }

# What arrived until now, and what will have been collected a moment later.
records_arrive() {
    next=$(status next_seq)
    [ -n "$next" ] || die "the agent's status has no next_seq"
    wait_for 60 "record $next at the hub" hub_has_seq "$next"
}

# Every process of the service: not root, without rights and without a way to get any.
confined() {
    first=$(engine_pid "$1")
    own=$(readlink "/proc/$first/ns/pid") seen=0
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/ns/pid" 2>/dev/null)" = "$own" ] || continue
        # A moment ago it was there.
        rights=$(sed -n 's/^\(Uid\|CapEff\|NoNewPrivs\):\t//p' "$process/status" | tr '\n\t' '  ') || continue
        case $rights in
        "0 "*) die "$1 runs as root: $(tr '\0' ' ' <"$process/cmdline")" ;;
        *" 0000000000000000 1 ") seen=$((seen + 1)) ;;
        *) die "$1 has rights (users, capabilities, no new privileges: $rights)" ;;
        esac
    done
    [ $seen -gt 0 ] || die "$1 has no process"
    # By root, through the service's own mount.
    answer=$( (: >"/proc/$first/root/written") 2>&1) || true
    case $answer in *"Read-only file system"*) ;; *) die "the root of $1 can be written: $answer" ;; esac
}

measures_the_host() {
    wait_for 40 "the machine's interface at the hub" hub_has '"interface":"machine0"'
    # In its own mount and network name spaces the agent would see these.
    for own in '"mountpoint":"/host' '"mountpoint":"/tls' '"mountpoint":"/var/lib/holdover' '"mountpoint":"/etc/'; do
        ! hub_has "$own" || die "the agent measures its container: $own"
    done
    ! grep -q machine0 "/proc/$(engine_pid agent)/net/dev" || die "the container has the machine's interface too"
}

authority() { sha256sum <"$(engine_volume authority)/ca.crt"; }

# --- the run -------------------------------------------------------------------------------------------------------

images() {
    for service in ca broker; do
        printf 'FROM scratch\nCOPY . /\n' | engine_image base-$service "$work/base/$service"
    done
    for service in ca broker; do compose dockerfile $service | engine_image $service "$work/context"; done
    for service in agent hub; do compose dockerfile $service | engine_image $service "$work/out/$service"; done
    say "images: ca, broker, agent, hub"
}

first_start() {
    up
    grep -q 'made .*/ca.crt' "$work/ca.log" || die "the first start made no authority: $(cat "$work/ca.log")"
    made=$(authority)
    say "up: authority made; broker, hub and agent healthy"
    wait_for 60 "a record of the built-in collectors" hub_has '"name":"system.'
    measures_the_host
    for service in $services; do confined "$service"; done
    say "every service without root, rights and a writable root; the agent measures the machine"
}

# A container of its own on the same volume.
replace_the_agent() {
    epoch=$(status epoch) before=$(status next_seq)
    leave agent
    engine_start agent
    wait_for 60 "the new container's health" engine_healthy agent
    goes_on
    records_arrive
    say "agent replaced: epoch $epoch goes on, after seq $before with $next"
}

goes_on() {
    [ -n "$epoch" ] && [ "$(status epoch)" = "$epoch" ] || die "epoch '$epoch' became '$(status epoch)'"
    [ "$(status next_seq)" -ge "$before" ] || die "next_seq went back from $before to $(status next_seq)"
}

nothing_is_missing() {
    engine_inside hub /holdover-hub gaps >"$work/account" 2>&1 || die "the hub lacks $(cat "$work/account")"
    hub_records | "$python" -B "$here/tools/account.py" edge-01 >"$work/account" 2>&1 ||
        die "the hub has $(cat "$work/account")"
    say "hub: $(cat "$work/account")"
}

second_start() {
    up
    ! grep -q made "$work/ca.log" && grep -q kept "$work/ca.log" || die "the second start: $(cat "$work/ca.log")"
    [ "$(authority)" = "$made" ] || die "the second start has another authority"
    goes_on
    records_arrive
    nothing_is_missing
    say "down and up again: the same authority, the same epoch"
}

images
first_start
replace_the_agent
nothing_is_missing
epoch=$(status epoch) before=$(status next_seq)
down
second_start
down
left=$(engine_end)
[ -z "$left" ] || die "left behind: $left"
say "nothing left; $engine_says"
