# The same root file systems as those of the images, run without a container engine: sourced by tests/docker.sh where
# podman is not let. unshare, chroot and setpriv do what they can of what compose.yaml asks for: the limits of memory,
# processor and processes, the seccomp filter and the restarts are not there.

engine_says="NOT in containers: the same root file systems, run by unshare and chroot"

# setting SERVICE WHAT: the values, one a line
setting() { compose bare "$1" | sed -n "s/^$2 //p"; }

engine_begin() {
    mkdir -p "$work/roots" "$work/volumes" "$work/logs" "$work/pids"
    : >"$work/net"
    # The network of all services, with nothing but its loopback.
    unshare --net="$work/net" ip link set lo up
}

# engine_image NAME CONTEXT < DOCKERFILE: its root file system; a base image is one already
engine_image() {
    # What it copies, compose.py says in a form that needs no parser.
    cat >/dev/null
    root=$work/roots/$1 context=$2
    case $1 in
    base-*) cp -a "$context" "$root"; return ;;
    esac
    if [ -d "$work/roots/base-$1" ]; then cp -a "$work/roots/base-$1" "$root"; else mkdir "$root"; fi
    setting "$1" copy | while read -r owner target sources; do
        mkdir -p "$root$target"
        for source in $sources; do
            case $source in */) source=$source. ;; esac
            cp -R --preserve=mode "$context/$source" "$root$target"
        done
        chown "$owner" "$root$target"
    done
}

# launch SERVICE: takes the place of the shell that calls it
launch() {
    service=$1
    join="nsenter --net=$work/net" net=
    [ "$(setting "$service" network)" != none ] || { join= && net=--net; }
    # shellcheck disable=SC2086
    exec $join unshare $net --mount --propagation slave --ipc --uts --pid --fork --kill-child \
        sh "$here/containers/bare_inside.sh" "$service" "$work"
}

engine_run() { (launch "$1"); }

engine_start() {
    (launch "$1") >"$work/logs/$1" 2>&1 &
    echo $! >"$work/pids/$1"
    wait_for 10 "the start of $1" engine_pid "$1"
}

# Process 1 of its name space, which is the service (or the init before it) as soon as that is in its root.
engine_pid() {
    first=$(ps -o pid= --ppid "$(cat "$work/pids/$1")" | tr -d ' ')
    [ -n "$first" ] && [ "$(readlink "/proc/$first/root")" != / ] && echo "$first"
}

engine_inside() {
    service=$1
    shift
    user=$(setting "$service" user)
    set -- nsenter --target "$(engine_pid "$service")" --mount --pid --net --root --wd=/ \
        --setuid "${user%:*}" --setgid "${user#*:}" "$@"
    while IFS= read -r pair; do [ -z "$pair" ] || set -- "$pair" "$@"; done <<PAIRS
$(setting "$service" env)
PAIRS
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

engine_healthy() {
    probed=$1
    set --
    while IFS= read -r word; do set -- "$@" "$word"; done <<WORDS
$(setting "$probed" probe)
WORDS
    engine_inside "$probed" "$@"
}

engine_output() { cat "$work/logs/$1"; }

engine_stop() {
    kill -TERM "$(engine_pid "$1")"
    code=0
    wait "$(cat "$work/pids/$1")" || code=$?
}
engine_remove() { rm "$work/logs/$1" "$work/pids/$1"; }
engine_restarts() { echo 0; }
engine_volume() { echo "$work/volumes/$1"; }
engine_end() { umount "$work/net"; }
