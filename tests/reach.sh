#!/bin/sh
# The other targets: static programs for x86_64 and aarch64, and what Windows has of the agent.
#
#   tests/reach.sh short     the agent is linted for Windows, as it is for Linux. tests/run.sh does this.
#   tests/reach.sh           and the edge agent as it is released is built for both musl targets: static, in real use
#                            (aarch64 under qemu-user), killed, and its outbox read by the other one
#   tests/reach.sh wine      the agent for Windows is built and runs under Wine
#   tests/reach.sh whole     all of it, and the library's unit tests run for aarch64
#
# On two cores: 1 min for the first from nothing (15 s once built), 8 min for the second (1 min), 40 min for the last:
# qemu takes ten times the machine's time. Nothing but target/ and installed Rust targets is left: what runs is in one
# temporary directory, and the kernel is told of qemu in name spaces of our own only (Linux 6.7 or later).
set -eu
cd "$(dirname "$0")/.."

windows=x86_64-pc-windows-gnu
arm=aarch64-unknown-linux-musl
intel=x86_64-unknown-linux-musl
began=$(date +%s)
mode=${1:-usual}

# What qemu-user cannot do, so that a test of it says nothing of aarch64: it has no sockets of NETLINK_SOCK_DIAG.
qemu_cannot='--skip collect::tcp::tests::the_kernel_and_its_files_agree_on_sockets_that_we_open'

say() { printf 'reach: [%d s] %s\n' "$(($(date +%s) - began))" "$1"; }

die() {
    printf 'tests/reach.sh: %s\n' "$1" >&2
    exit 1
}

need() { command -v "$1" >/dev/null || die "$1 is missing (Debian: $2)"; }

need_target() {
    [ -d "$(rustc --print target-libdir --target "$1")" ] || rustup target add "$1" ||
        die "Rust's target $1 is missing: rustup target add $1"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds
wait_for() {
    end=$(($(date +%s) + $1)) awaited=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || die "waited in vain for $awaited"
        sleep 0.2
    done
}

# --- Windows -------------------------------------------------------------------------------------------------------

check_windows() {
    need x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64
    need_target $windows
    said=$(cargo clippy --quiet --locked --target $windows --no-default-features --bin holdover -- -D warnings 2>&1) ||
        die "$said"
    [ -z "$said" ] || die "cargo clippy for $windows says: $said"
    say "$windows: linted, no warning"
}

# From the folder that is its drive C, where there is no /proc.
wine_says() (
    cd "$WINEPREFIX/drive_c" 2>/dev/null || cd "$work"
    WINEDEBUG=-all DISPLAY='' WINEDLLOVERRIDES=bcryptprimitives=n timeout 300 wine "$@"
)

windows_has() { wine_says "$exe" outbox export --config "$work/windows.toml" 2>/dev/null | grep -q "$1"; }

# Wine is not Windows: what it shows is that the program starts, schedules, runs programs and keeps an outbox.
run_on_wine() {
    need wine "wine wine64"
    cargo build --quiet --locked --target $windows --no-default-features --bin holdover
    export WINEPREFIX="$work/wine"
    exe=$work/holdover.exe
    cp "$target/$windows/debug/holdover.exe" "$exe"
    # Wine 8 lacks one call of a library of Windows; this is that library.
    printf '%s\n' '#include <windows.h>' 'BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);' \
        '__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE p, SIZE_T n) { return SystemFunction036(p, (ULONG)n); }' \
        >"$work/random.c"
    x86_64-w64-mingw32-gcc -shared -o "$work/bcryptprimitives.dll" "$work/random.c" -ladvapi32
    cat >"$work/windows.toml" <<'TOML'
[host]
id = "reach-02"
site = "lab"
[broker]
url = "mqtts://127.0.0.1:9"
[outbox]
dir = 'C:\holdover'
# It asks a library of Windows that Wine 8 has without its contents.
[[collector]]
name = "cpu"
enabled = false
[[collector]]
name = "lines"
every = "1s"
exec = ['C:\windows\system32\cmd.exe', "/c", "echo reach,by=script value=42i"]
format = "influx"
check_owner = false
[[collector]]
name = "slow"
every = "3s"
timeout = "1s"
exec = ['C:\windows\system32\cmd.exe', "/c", "ping -n 60 127.0.0.1"]
check_owner = false
[[collector]]
name = "owned"
every = "3s"
exec = ['C:\windows\system32\cmd.exe', "/c", "echo reach value=1"]
TOML
    wine_says "$exe" --version | grep -q '^holdover ' || die "the agent for Windows does not start under Wine"
    (wine_says "$exe" run --config "$work/windows.toml" >"$work/windows.log" 2>&1 || true) &
    for seen in '"by":"script"' '"kind":"timeout"' 'check_owner` is unsupported'; do
        wait_for 100 "$seen of the agent for Windows" windows_has "$seen"
    done
    ! wine_says "$exe" status --config "$work/windows.toml" >"$work/said" 2>&1 || die "status works on Windows: tell docs/windows.md"
    grep -q unsupported "$work/said" || die "status says $(cat "$work/said")"
    wineserver -k
    wait
    wine_says "$exe" outbox verify --config "$work/windows.toml" >"$work/said" 2>&1 || die "after a kill: $(cat "$work/said")"
    wineserver -k
    say "under Wine: scripts, budgets of time, what is unsupported, an outbox that verifies after a kill"
}

# --- musl ----------------------------------------------------------------------------------------------------------

build() {
    need musl-gcc musl-tools
    need aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    need qemu-aarch64 qemu-user
    need readelf binutils
    for triple in $intel $arm; do
        need_target $triple
        cargo build --quiet --locked --release --target $triple --no-default-features --bin holdover
        program=$target/$triple/release/holdover
        ! readelf -lW "$program" | grep -q INTERP || die "$program wants a loader: it is not static"
        ! readelf -dW "$program" | grep -q NEEDED || die "$program wants libraries: it is not static"
        say "$triple: static, $(stat -c %s "$program") bytes"
    done
}

on_arm() { qemu-aarch64 "$target/$arm/release/holdover" "$@"; }
on_intel() { "$target/$intel/release/holdover" "$@"; }

exported() { [ "$(on_intel outbox export --config "$work/edge.toml" 2>/dev/null | grep -c "$1")" -ge "$2" ]; }

# collect_and_kill WHO COUNT: an agent that has recorded that many runs of a script and of a built-in, killed
collect_and_kill() {
    case $1 in
    arm) qemu-aarch64 "$target/$arm/release/holdover" run --config "$work/edge.toml" >"$work/$1.log" 2>&1 & ;;
    intel) "$target/$intel/release/holdover" run --config "$work/edge.toml" >"$work/$1.log" 2>&1 & ;;
    esac
    agent=$!
    wait_for 120 "$2 runs of a script by the $1 agent: $(tail -n 3 "$work/$1.log")" exported '"by":"script"' "$2"
    wait_for 120 "$2 runs of a built-in by the $1 agent" exported '"name":"system.load"' "$2"
    on_intel status --config "$work/edge.toml" >/dev/null || die "the $1 agent does not answer"
    kill -KILL $agent
    wait $agent 2>/dev/null || true
}

# Both read the same of it, and find it whole.
read_by_both() {
    for who in arm intel; do
        on_$who outbox verify --config "$work/edge.toml" >"$work/said" 2>&1 || die "$who, $1: $(cat "$work/said")"
        on_$who outbox export --config "$work/edge.toml" >"$work/$who.ndjson"
    done
    cmp "$work/arm.ndjson" "$work/intel.ndjson" || die "$1: the two export different records"
    say "$1: both verify it and export the same $(wc -l <"$work/arm.ndjson") records"
}

use() {
    cat >"$work/edge.toml" <<TOML
[host]
id = "reach-01"
site = "lab"
[broker]
url = "mqtts://127.0.0.1:9"
[outbox]
dir = "$work/outbox"
[[collector]]
name = "load"
every = "1s"
[[collector]]
name = "lines"
every = "1s"
exec = ["/bin/sh", "-c", "echo reach,by=script value=42i"]
format = "influx"
TOML
    on_arm --version | grep -q '^holdover ' || die "the aarch64 agent does not start"
    on_arm collectors >"$work/arm.txt"
    on_intel collectors | cmp - "$work/arm.txt" || die "the two have different collectors"
    on_arm once --config "$work/edge.toml" >"$work/once" || die "once fails on aarch64: $(cat "$work/once")"
    for name in system.cpu system.memory system.filesystem system.network reach; do
        grep "\"name\":\"$name\"" "$work/once" | grep -q '"status":"ok"' || die "once gives no $name: $(cat "$work/once")"
    done
    say "aarch64: once gives $(wc -l <"$work/once") records, a script's under its minder among them"
    collect_and_kill arm 5
    read_by_both "killed on aarch64"
    epoch=$(sed -n 's/.*"epoch":\([0-9]*\).*/\1/p' "$work/arm.ndjson" | sort -u)
    collect_and_kill intel 10
    read_by_both "gone on with and killed on x86_64"
    [ "$(sed -n 's/.*"epoch":\([0-9]*\).*/\1/p' "$work/arm.ndjson" | sort -u)" = "$epoch" ] ||
        die "x86_64 did not go on with the epoch of aarch64"
    collect_and_kill arm 15
    read_by_both "gone on with and killed on aarch64"
}

unit_tests() {
    cargo test --quiet --locked --lib --no-run --target $arm --features schema,demo
    say "unit tests for aarch64: built"
    # shellcheck disable=SC2086
    cargo test --quiet --locked --lib --target $arm --features schema,demo -- --test-threads 2 $qemu_cannot
    say "unit tests for aarch64: passed"
}

# What the kernel is to do with programs for aarch64: the agent starts itself, and tests start programs. Each user name
# space has such a list of its own.
tell_the_kernel_of_qemu() {
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc ||
        die "the kernel keeps no list of interpreters for a name space: Linux 6.7 or later, with binfmt_misc, is needed"
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf '%s\n' ":holdover-arm:M::$magic:$mask:$(command -v qemu-aarch64):F" >/proc/sys/fs/binfmt_misc/register
}

remove_everything() {
    [ ! -d "$work/wine" ] || WINEPREFIX=$work/wine wineserver -k -w 2>/dev/null || true
    rm -rf "$work"
}

# --- the run -------------------------------------------------------------------------------------------------------

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

case $mode in
short) check_windows ;;
usual | whole | wine)
    work=$(mktemp -d)
    trap remove_everything EXIT
    trap 'exit 130' HUP INT TERM
    export work
    check_windows
    [ "$mode" = usual ] || run_on_wine
    if [ "$mode" != wine ]; then
        build
        unshare --user --map-root-user --mount --pid --fork --kill-child --mount-proc "$0" inside "$mode" "$began"
    fi
    say "done"
    ;;
inside)
    mode=$2 began=$3
    tell_the_kernel_of_qemu
    use
    [ "$mode" = usual ] || unit_tests
    ;;
*) die "usage: tests/reach.sh [short|wine|whole]" ;;
esac
