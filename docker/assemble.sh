#!/bin/sh
# Builds one of the two programs as a static binary and lays out the root file system of its image.
# The Dockerfiles run it in their build stage: what an image holds is written nowhere else.
#
# usage: docker/assemble.sh holdover|holdover-hub OUT     (PROFILE=release unless set)
set -eu
cd "$(dirname "$0")/.."

die() {
    echo "docker/assemble.sh: $1" >&2
    exit 1
}

[ $# = 2 ] || die "usage: docker/assemble.sh holdover|holdover-hub OUT"
program=$1 out=$2
profile=${PROFILE:-release}
target=$(uname -m)-unknown-linux-musl
case $program in
holdover) features=--no-default-features ;;
holdover-hub) features= ;;
*) die "there is no program $program" ;;
esac

# shellcheck disable=SC2086
cargo build --quiet --locked --profile "$profile" --target "$target" $features --bin "$program"
case $profile in dev | test) folder=debug ;; *) folder=$profile ;; esac

mkdir -p "$out/rootfs/etc/ssl/certs" "$out/rootfs/usr/share" "$out/state"
cp "${CARGO_TARGET_DIR:-target}/$target/$folder/$program" "$out/rootfs/$program"
# What the host would otherwise bring: the authorities that `ca = "system"` trusts, and time zones by name.
cp -L /etc/ssl/certs/ca-certificates.crt "$out/rootfs/etc/ssl/certs/" || die "install the package ca-certificates"
[ -d /usr/share/zoneinfo/Etc ] || die "install the package tzdata"
tar -C /usr/share -c --exclude=zoneinfo/right --exclude=zoneinfo/posix --exclude=zoneinfo/localtime zoneinfo |
    tar -C "$out/rootfs/usr/share" -x
if [ "$program" = holdover ]; then
    mkdir -p "$out/rootfs/etc/holdover"
    echo '# Mount a configuration over this file, or set HOLDOVER__SECTION__KEY variables.' \
        >"$out/rootfs/etc/holdover/holdover.toml"
fi
