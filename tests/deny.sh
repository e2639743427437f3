#!/bin/sh
# Licences, advisories, sources and bans of the dependencies, by cargo-deny and deny.toml. Not part of tests/run.sh: an
# advisory published today must not fail yesterday's commit, and cargo-deny takes longer to build than all the rest.
# Needs the network for the advisory database; `tests/deny.sh bans licenses sources` does without.
set -eu
cd "$(dirname "$0")/.."
if ! command -v cargo-deny >/dev/null; then
    echo "tests/deny.sh: cargo-deny is missing: cargo install --locked cargo-deny" >&2
    exit 1
fi
exec cargo deny --all-features check "$@"
