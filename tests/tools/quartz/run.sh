#!/bin/sh
# Holds the schedule against Quartz itself (Debian's libquartz2-java), and two other implementations against it, over random
# expressions: tests/tools/quartz/run.sh [COUNT [SEED]]     (10000 1)
#
# With --update before them, the vector file that the tests read is written anew. Needs Java, Node.js, Python and the
# package indexes; works in target/quartz, and leaves the rest of the host alone.
set -eu
cd "$(dirname "$0")/../../.."

update=
[ "${1:-}" = --update ] && update=yes && shift
count=${1:-10000}
seed=${2:-1}
here=tests/tools/quartz
work=target/quartz
jars=/usr/share/java/quartz2.jar:/usr/share/java/slf4j-api.jar

die() {
    printf '%s\n' "$1" >&2
    exit 1
}
[ -e /usr/share/java/quartz2.jar ] || die "Quartz is missing: apt-get install --no-install-recommends libquartz2-java"
command -v java >/dev/null || die "Java is missing: apt-get install --no-install-recommends default-jdk-headless"
command -v node >/dev/null || die "Node.js is missing: apt-get install --no-install-recommends nodejs npm"

mkdir -p $work
[ -x $work/venv/bin/python ] || python3 -m venv $work/venv
$work/venv/bin/pip -q --disable-pip-version-check install pyawscron==1.0.7
(cd $work && { [ -e package.json ] || npm init -y >/dev/null; } && npm install --silent --ignore-scripts croner@11.0.0)
cp $here/second_opinions.mjs $work/

python3 $here/cases.py "$seed" "$count" >$work/cases.tsv
java -cp $jars $here/Oracle.java <$work/cases.tsv >$work/quartz.txt 2>$work/quartz.log
$work/venv/bin/python $here/second_opinions.py <$work/cases.tsv >$work/python.txt
node $work/second_opinions.mjs <$work/cases.tsv >$work/node.txt
python3 $here/compare.py $work/cases.tsv $work/quartz.txt \
    pyawscron=$work/python.txt croner=$work/node.txt

python3 $here/vectors.py $work/cases.tsv $work/quartz.txt \
    "Quartz 2.3.2, made by tests/tools/quartz/run.sh --update $count $seed:" \
    "expression, zone, instant, and Quartz's next three times in seconds after it" >$work/vectors.tsv
[ -z "$update" ] || cp $work/vectors.tsv tests/fixtures/quartz/vectors.tsv
HOLDOVER_QUARTZ_VECTORS=$PWD/$work/vectors.tsv cargo test --features schema,demo --lib schedule::tests::quartz -- --nocapture
