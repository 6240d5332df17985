#!/usr/bin/env bash
# tools/fuzz.sh [TARGET...]   feeds made-up bytes to readers: each target of tests/fuzz, or those named, for FUZZ_SECONDS (60).
#
# Inputs that reach new code are kept in target/fuzz/corpus, beside the first ones of tests/fuzz/corpus. An input that crashes,
# hangs for 20 s or takes 2 GB lies in target/fuzz/artifacts, and the script ends with 1.
# FUZZ_SANITIZER=address also finds wrong uses of memory; it needs RUSTC_BOOTSTRAP=1 or a nightly toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install.sh cargo-fuzz
tools=${SEMBLANCE_TOOLS:-$PWD/target/tools}
seconds=${FUZZ_SECONDS:-60}
# Absolute: the build has another workspace.
export LIBTORCH=${LIBTORCH:-$PWD/.libtorch}
export LD_LIBRARY_PATH=$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
PATH=$tools/bin:$PATH cargo fuzz build --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer "${FUZZ_SANITIZER:-none}"
programs=target/fuzz/$(rustc -vV | sed -n 's/^host: //p')/release

if [ $# -eq 0 ]; then
    for source in tests/fuzz/targets/*.rs; do set -- "$@" "$(basename "$source" .rs)"; done
fi
failed=""
for target; do
    found=target/fuzz/corpus/$target artifacts=target/fuzz/artifacts/$target/ log=target/fuzz/$target.log
    mkdir -p "$found" "$artifacts"
    outcome="no crash"
    if ! "$programs/$target" "$found" "tests/fuzz/corpus/$target" -artifact_prefix="$artifacts" -max_len=65536 -timeout=20 \
        -rss_limit_mb=2048 -max_total_time="$seconds" -print_final_stats=1 >"$log" 2>&1; then
        outcome="FAILED, see $log" failed=yes
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 | cut -d ' ' -f 2)
    printf '%-18s %12s executions  %7s places of the code reached  %s\n' "$target" "${executions:-?}" "${covered:-?}" "$outcome"
done
[ -z "$failed" ]
