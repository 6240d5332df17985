#!/usr/bin/env bash
# tools/notices.sh FILE: writes the notices of everything in the program and its image that others made: Rust crates, the
# plots' fonts (a crate), libtorch, oneMKL, the CUDA libraries and libgomp.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:?usage: tools/notices.sh FILE}
libtorch=${LIBTORCH:-.libtorch}
licences=$libtorch/licenses
if [ ! -d "$licences" ]; then
    echo "tools/notices.sh: $libtorch has no licenses folder: remove it and run tools/libtorch.sh, which brings the licences" >&2
    exit 1
fi
# libgomp's licence is in none of the wheels; Debian and Ubuntu keep it beside their own copy.
gcc=$(find -L /usr/share/doc -maxdepth 2 -path '*/gcc-*-base/copyright' | sort --version-sort | tail -n 1)
gpl=/usr/share/common-licenses/GPL-3
if [ -z "$gcc" ] || [ ! -f "$gpl" ]; then
    echo "tools/notices.sh: needs the licence of libgomp: Debian's libgomp1 and base-files" >&2
    exit 1
fi

tools/install.sh cargo-about
PATH=${SEMBLANCE_TOOLS:-target/tools}/bin:$PATH
mkdir -p "$(dirname "$out")"
work=$(mktemp "$out.XXXXXX")
trap 'rm -f "$work"' EXIT

quoted() { # FILE
    printf '\n````text\n'
    cat "$1"
    printf '\n````\n'
}
{
    cargo about generate --locked --fail --workspace about.hbs
    printf '\n## libtorch %s\n\nUnchanged; libtorch.so is a small library of this project that loads it. It contains:\n' "$(cat "$libtorch/build-version")"
    # The wheel repeats a text for every project that contains the project: each text once, with all who use it.
    declare -A users=() texts=()
    while IFS= read -r file; do
        sum=$(sha256sum <"$file")
        who=${file#"$licences/torch/"}
        users[$sum]+="- ${who#third_party/}"$'\n'
        texts[$sum]=$file
    done < <(find "$licences/torch" -type f | sort)
    while IFS= read -r sum; do
        printf '\n### Licence in libtorch\n\nOf:\n%s' "${users[$sum]}"
        quoted "${texts[$sum]}"
    done < <(for sum in "${!texts[@]}"; do printf '%s\t%s\n' "${texts[$sum]}" "$sum"; done | sort | cut -f 2)
    printf '\n## oneMKL (in libtorch_cpu.so)\n'
    quoted "$licences/mkl/LICENSE.txt"
    quoted "$licences/mkl/third-party-programs.txt"
    printf '\n## CUDA runtime (libcudart) and CUPTI (libcupti)\n'
    quoted "$licences/nvidia-cuda-runtime/License.txt"
    printf '\n## libgomp\n\nGPL-3.0-or-later with the GCC Runtime Library Exception 3.1.\n'
    quoted "$gcc"
    quoted "$gpl"
} >"$work"
chmod 644 "$work"
mv "$work" "$out"
trap - EXIT
echo "notices are in $out" >&2
