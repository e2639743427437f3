#!/bin/sh
# Every check of this repository, from a clean clone: format, lints, builds, and all tests, those against a real
# mosquitto and the real programs included. Ends with the summary of `cargo test` and its exit code.
#
# Needs Rust (see rust-version in Cargo.toml) with rustfmt and clippy, and root: containers are run, and what is missing
# from Debian's packages is installed. Starts servers on 127.0.0.1 only, ends them, and leaves nothing
# behind but target/. Further arguments go to `cargo test`: tests/run.sh -- scenarios::planted_loss
set -eu
cd "$(dirname "$0")/.."

began=$(date +%s)
stage_began=$began
stage() {
    now=$(date +%s)
    [ "$now" = "$began" ] || printf '=== (%d s)\n' "$((now - stage_began))"
    stage_began=$now
    printf '=== [%d s] %s\n' "$((now - began))" "$1"
}

die() {
    printf 'tests/run.sh: %s\n' "$1" >&2
    exit 1
}

# packages_missing: what Debian packages would bring
packages_missing() {
    PATH="$PATH:/usr/sbin:/sbin"
    command -v mosquitto >/dev/null || echo mosquitto
    command -v mosquitto_sub >/dev/null || echo mosquitto-clients
    command -v strace >/dev/null || echo strace
    command -v openssl >/dev/null || echo openssl
    command -v unshare >/dev/null && command -v setsid >/dev/null || echo util-linux
    if ! python3 -c 'import msgpack, paho.mqtt.client, zstandard' 2>/dev/null &&
        ! /usr/bin/python3 -c 'import msgpack, paho.mqtt.client, zstandard' 2>/dev/null; then
        echo python3 python3-msgpack python3-paho-mqtt python3-zstandard
    fi
    python3 -c 'import prometheus_client' 2>/dev/null || /usr/bin/python3 -c 'import prometheus_client' 2>/dev/null ||
        echo python3-prometheus-client
    [ -x /usr/lib/nagios/plugins/check_http ] || echo monitoring-plugins-basic
    command -v podman >/dev/null || echo podman
    command -v runc >/dev/null || echo runc
    command -v catatonit >/dev/null || echo catatonit
    command -v musl-gcc >/dev/null || echo musl-tools
    command -v x86_64-w64-mingw32-gcc >/dev/null || echo gcc-mingw-w64-x86-64
    command -v systemd-analyze >/dev/null || echo systemd
    command -v ip >/dev/null || echo iproute2
    command -v ps >/dev/null && [ -x /bin/kill ] || echo procps
    [ -d /usr/share/zoneinfo/Etc ] || echo tzdata
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    python3 -c 'import yaml' 2>/dev/null || /usr/bin/python3 -c 'import yaml' 2>/dev/null || echo python3-yaml
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || echo libfaketime
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}

install_missing() {
    missing=$(packages_missing | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "missing, and there is no apt-get to install it: $missing"
    [ "$(id -u)" = 0 ] || die "missing; as root run: apt-get install --no-install-recommends $missing"
    echo "installing Debian packages: $missing"
    # The package would start a broker of its own; the tests start theirs.
    policy=/usr/sbin/policy-rc.d
    made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made=yes
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq || echo "apt-get update failed; trying with the package lists that are here"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    trap - EXIT
    [ -z "$made" ] || rm -f $policy
    still=$(packages_missing | tr '\n' ' ')
    [ -z "$still" ] || die "still missing after the installation: $still"
}

stage "tools"
command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
cargo fmt --version >/dev/null 2>&1 || die "rustfmt is missing: rustup component add rustfmt"
[ "$(id -u)" = 0 ] || die "needs root: images are run with podman (cargo test --features schema,demo does not need it)"
cargo clippy --version >/dev/null 2>&1 || die "clippy is missing: rustup component add clippy"
install_missing
cargo --version

stage "format"
cargo fmt --check
for script in .ci/run tests/*.sh tests/containers/*.sh broker-config/*/*.sh docker/*.sh; do
    sh -n "$script"
done

stage "lints: as released, the edge build, and everything"
cargo clippy --quiet -- -D warnings
cargo clippy --quiet --no-default-features -- -D warnings
cargo clippy --quiet --no-default-features --features zstd -- -D warnings
cargo clippy --quiet --all-targets --features schema,demo -- -D warnings

stage "the edge build carries nothing of the hub's"
tree=$(cargo tree --quiet --edges normal --no-default-features --prefix none --format '{p}')
for crate in zstd zstd-sys schemars chrono tokio-cron-scheduler; do
    if printf '%s\n' "$tree" | grep -q "^$crate v"; then
        die "$crate is in the edge build (cargo tree --no-default-features --invert $crate)"
    fi
done
printf '%s\n' "$tree" | sed 's, (\*)$,,' | sort -u | wc -l | xargs echo "crates in the edge build:"

stage "the agent linted for Windows"
tests/reach.sh short

# One set of features for all that follows, so that everything is compiled once.
stage "build"
cargo test --quiet --features schema,demo --no-run

stage "benches: every section once, with small amounts"
cargo bench --quiet --profile dev --features schema,demo --bench report -- --short >/dev/null

stage "docker/: the images built, compose.yaml run, the unit judged"
tests/docker.sh

stage "tests"
# A session of its own, so that whatever a test may have left running can be found and ended.
setsid cargo test --features schema,demo "$@" &
group=$!
trap 'kill -TERM -- "-$group" 2>/dev/null; exit 130' HUP INT TERM
code=0
wait "$group" || code=$?
if kill -0 -- "-$group" 2>/dev/null; then
    echo "tests/run.sh: the tests left processes running; ending them:" >&2
    ps -o pid=,args= -g "$group" >&2 || true
    kill -KILL -- "-$group" 2>/dev/null || true
    [ "$code" != 0 ] || code=1
fi
stage_end=$(date +%s)
printf '=== (%d s, %d s in all) exit code %d\n' "$((stage_end - stage_began))" "$((stage_end - began))" "$code" >&2
exit "$code"
