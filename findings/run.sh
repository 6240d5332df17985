#!/usr/bin/env bash
# findings/run.sh [SCRIPT...]: runs the named findings, or all of them, and says which no longer hold.
set -uo pipefail
cd "$(dirname "$0")" || exit

scripts=("$@")
if [ ${#scripts[@]} = 0 ]; then
    for script in *.sh; do
        if [ "$script" != run.sh ]; then scripts+=("$script"); fi
    done
fi
changed=()
for script in "${scripts[@]}"; do
    echo "== $script"
    bash "$script" || changed+=("$script")
done
if [ ${#changed[@]} -gt 0 ]; then
    echo "findings that no longer hold, or could not be run: ${changed[*]}" >&2
    exit 1
fi
echo "all ${#scripts[@]} findings hold"
