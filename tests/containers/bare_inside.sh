#!/bin/sh
# bare_inside.sh SERVICE WORK: the last step of bare.sh, in the service's own name spaces: mounts, and its command.
set -eu
service=$1 work=$2
here=$(cd "$(dirname "$0")/.." && pwd)
root=$work/roots/$service
settings=$("$python" -B "$here/tools/compose.py" bare "$service")

setting() { printf '%s\n' "$settings" | sed -n "s/^$1 //p"; }

# A target has to exist before the root is read-only.
mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/dev" "$root/etc"
echo '127.0.0.1 localhost broker' >"$root/etc/hosts"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755,size=4m tmpfs "$root/dev"
for device in null zero random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
setting tmpfs | while read -r target; do
    mkdir -p "$root$target"
    mount -t tmpfs tmpfs "$root$target"
done
setting volume | while read -r name target options; do
    # A new volume takes over the owner of the folder that it is mounted on.
    mkdir -p "$root$target"
    volume=$work/volumes/$name
    [ -d "$volume" ] || { mkdir "$volume" && chown --reference="$root$target" "$volume"; }
    mount --bind "$volume" "$root$target"
    mount -o "remount,bind,$options" "$root$target"
done
setting mount | while read -r source target options; do
    mkdir -p "$root$(dirname "$target")"
    if [ -d "$source" ]; then mkdir -p "$root$target"; else : >>"$root$target"; fi
    mount --rbind "$source" "$root$target"
    mount -o "remount,bind,${options%%,*}" "$root$target"
done
mount -o remount,bind,ro "$root"

# chroot needs the first capability, and the change of user the other two, which end with it.
bounds=-all,+sys_chroot,+setuid,+setgid
for capability in $(setting capability); do bounds=$bounds,+$capability; done
set -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin
while IFS= read -r pair; do [ -z "$pair" ] || set -- "$@" "$pair"; done <<PAIRS
$(setting env)
PAIRS
set -- "$@" setpriv --no-new-privs --bounding-set "$bounds" chroot --userspec "$(setting user)" --groups= "$root"
if [ "$(setting init)" = True ]; then
    cp "$(command -v catatonit)" "$root/dev/init"
    set -- "$@" /dev/init --
fi
while IFS= read -r word; do set -- "$@" "$word"; done <<WORDS
$(setting word)
WORDS
exec "$@"
