# shellcheck shell=bash
# What the scripts of this folder share: the binary under test, a reduced nano study, and the comparison of two output
# directories bit by bit. It is sourced, never run.

set -euo pipefail
export LC_ALL=C

say() { printf '\n== [%3d s] %s\n' "$SECONDS" "$*"; }
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# The release binary of this checkout, or the one that BURGESS names.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
burgess=${BURGESS:-${CARGO_TARGET_DIR:-$top/target}/release/burgess}
[ -x "$burgess" ] || fail "$burgess is missing: build it with \`cargo build --release -p burgess\`, or set BURGESS"
burgess=$(realpath "$burgess")

# A folder of its own for everything that the script writes; --keep leaves it there.
place=$(mktemp -d "${TMPDIR:-/tmp}/burgess-scheduler.XXXXXX")
keep=
[ "${1:-}" != --keep ] || keep=1
export BURGESS_CACHE=$place/cache
# The bits do not depend on the number of threads; one per process keeps many processes on few cores fair.
export RAYON_NUM_THREADS=1

# finish CODE: removes the folder, unless it is to be looked at; scripts call it at their end.
finish() {
    if [ -n "$keep" ] || { [ "$1" != 0 ] && [ "$1" != 77 ]; }; then
        printf 'kept for inspection: %s\n' "$place" >&2
    else
        rm -rf "$place"
    fi
}

# write_study FILE NAME ARM...: writes a study with these arms and two seeds. It has the stages of the nano study, but
# learns nothing. One run takes about three seconds of one core.
write_study() {
    local file=$1 name=$2
    shift 2
    {
        cat <<TOML
name = "$name"
title = "A reduced nano study"
question = "Does a scheduler change any bit?"
seeds = [0, 1]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = ["nano-mme", "nano-cvbench-3d"]
[evaluator.data.world]
seed = 5
align = 64
tune = 64
turns = 3
per_benchmark = 6
[evaluator.recipe.align]
steps = ${ALIGN_STEPS:-40}
batch = 4
lr = 1e-3
trainable = ["connector"]
[evaluator.recipe.tune]
steps = ${TUNE_STEPS:-60}
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
TOML
        local arm
        for arm in "$@"; do printf '[[arms]]\nencoders = ["%s"]\n' "${arm//+/\", \"}"; done
    } >"$file"
}

# comparable STUDY_DIRECTORY FOLDER: copies what must be equal, bit by bit, between two directories of one study.
# Left out are times, dates, memory and throughput, the files made of them (checksums of runs, TensorBoard's events, the
# page, made.json), and what belongs to processes instead of results: hidden lease files, notes about failed runs, job
# scripts and logs.
comparable() {
    local from=$1 to=$2 file
    (cd "$from" && find . -type f ! -path '*/.*' ! -path './report/*' ! -name made.json \
        ! -name '*.seconds.json' ! -name failed.json ! -name 'events.out.tfevents.*' ! -path ./checksums.json \
        ! -path './*/seed-*/checksums.json' ! -path './slurm/*') | sort >"$to.list"
    mkdir -p "$to"
    while read -r file; do
        mkdir -p "$to/$(dirname "$file")"
        case $file in
        # The images of a world lie in the cache, which each of the two may have for itself.
        *.jsonl) sed -E 's/,"seconds":[0-9.e+-]+//; s|"image":"[^"]*/worlds/|"image":"|' "$from/$file" >"$to/$file" ;;
        # cost.train_seconds, cost.images_per_second and cost.peak_memory_bytes may end their object, so the line before
        # them loses its comma too.
        */results.json | ./ranking.json)
            sed -E '/"(date|seconds|train_seconds|images_per_second|peak_memory_bytes)":/d; s/,$//' "$from/$file" \
                >"$to/$file" ;;
        *) cp "$from/$file" "$to/$file" ;;
        esac
    done <"$to.list"
}

# same_bits WHAT ONE OTHER: fails unless two study directories hold equal results, samples, losses and weights.
same_bits() {
    local what=$1 one=$2 other=$3 a b
    a=$(mktemp -d "$place/compare.XXXXXX") b=$(mktemp -d "$place/compare.XXXXXX")
    comparable "$one" "$a"
    comparable "$other" "$b"
    grep -q . "$a.list" || fail "$what: $one holds nothing to compare"
    diff -r "$a" "$b" | cut -c1-300 | head -40 || true
    diff -rq "$a" "$b" >/dev/null || fail "$what: $other differs from $one in the lines above"
    printf '%s: %d files with equal bits: %d results.json, %d files of answers, %d of weights\n' "$what" \
        "$(wc -l <"$a.list")" "$(grep -c results.json "$a.list" || true)" "$(grep -c samples/ "$a.list" || true)" \
        "$(grep -c safetensors "$a.list" || true)"
    rm -rf "$a" "$b" "$a.list" "$b.list"
}
