#!/usr/bin/env bash
# Puts libtorch (CPU) into DIR, default .libtorch beside this repository: headers, the CPU libraries and their licences.
# Why from Python wheels: tch names one exact libtorch, and the wheel is the form of it that every machine with pip
# can fetch and check. Only files are taken out of it; no Python of it ever runs.
# Run again, it does nothing. A machine that has a libtorch of this version sets LIBTORCH and never comes here.
set -euo pipefail

version=2.13.0
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$root/.libtorch}

if [ "$(cat "$dir/build-version" 2>/dev/null)" = "$version" ]; then exit 0; fi
if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    echo "tools/libtorch.sh knows Linux on x86-64; elsewhere install libtorch $version and set LIBTORCH to its folder" >&2
    exit 1
fi
for need in python3 cc sha256sum; do
    command -v "$need" >/dev/null || { echo "tools/libtorch.sh needs $need on the PATH" >&2; exit 1; }
done
python3 -m pip --version >/dev/null 2>&1 || { echo "tools/libtorch.sh needs pip for $(command -v python3)" >&2; exit 1; }

mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "fetching libtorch $version (540 MB, once)"
fetch() { # NAME==VERSION SHA256 PLATFORM
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --python-version 3.11 --implementation cp --abi cp311 --abi none --platform "$3" \
        --dest "$work/wheels" "$1"
    local wheel
    wheel=$(find "$work/wheels" -name "$(echo "${1%%==*}" | tr - _)-*.whl")
    echo "$2  $wheel" | sha256sum --check --quiet || { echo "the wheel of $1 is not the one expected" >&2; exit 1; }
}
fetch "torch==$version" 60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7 manylinux_2_28_x86_64
# libtorch_cpu.so of a CUDA wheel needs these two small libraries even where there is no GPU.
fetch nvidia-cuda-cupti==13.0.85 4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8 manylinux_2_25_x86_64
fetch nvidia-cuda-runtime==13.0.96 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548 manylinux_2_17_x86_64
# libtorch_cpu.so contains oneMKL, but its wheel has no licence of it: take the licence from the wheel of oneMKL's headers.
fetch mkl-include==2024.2.2 124298b6806bc57ad3998c521699fb410a29812b35dc0e383fe8a4745cc29f11 manylinux1_x86_64

python3 - "$work" <<'PY'
import glob, os, shutil, sys, zipfile
work = sys.argv[1]
wanted = {"libc10.so", "libtorch_cpu.so", "libgomp.so.1", "libcupti.so.13", "libcudart.so.13"}
out = os.path.join(work, "libtorch")
os.makedirs(os.path.join(out, "lib"))
for wheel in glob.glob(os.path.join(work, "wheels", "*.whl")):
    package = os.path.basename(wheel).split("-")[0].replace("_", "-")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            base = os.path.basename(name)
            if base and ".dist-info/licenses/" in name:
                target = os.path.join(out, "licenses", package, name.split(".dist-info/licenses/")[1])
            elif package == "mkl-include" and base in {"LICENSE.txt", "third-party-programs.txt"}:
                target = os.path.join(out, "licenses", "mkl", base)
            elif name.startswith("torch/include/") and base:
                target = os.path.join(out, name[len("torch/"):])
            elif base in wanted:
                target = os.path.join(out, "lib", base)
            else:
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(name) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
missing = wanted - set(os.listdir(os.path.join(out, "lib")))
missing |= {"torch", "nvidia-cuda-cupti", "nvidia-cuda-runtime", "mkl"} - set(os.listdir(os.path.join(out, "licenses")))
if missing:
    sys.exit(f"not in the wheels: {sorted(missing)}")
PY

# The wheel's libtorch.so carries no code and pulls in CUDA; an empty one that needs the CPU libraries stands in for it.
# shellcheck disable=SC2016  # $ORIGIN is for the loader to expand
cc -shared -o "$work/libtorch/lib/libtorch.so" -Wl,-soname,libtorch.so -Wl,--no-as-needed \
    -L"$work/libtorch/lib" -l:libtorch_cpu.so -l:libc10.so -Wl,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined -x c /dev/null
# libtorch_cpu.so keeps its symbol table (438 MB instead of 349 MB): the file contains oneMKL, and Intel's licence allows
# redistribution only without modification.
echo "$version" >"$work/libtorch/build-version"
rm -rf "$dir"
mv "$work/libtorch" "$dir"
echo "libtorch $version is in $dir"
