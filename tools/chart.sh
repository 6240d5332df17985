#!/usr/bin/env bash
# Lints and renders the Helm chart with each file of values in its ci folder, and sees that it refuses what cannot work.
# Where helm is not installed there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."
chart=deploy/helm/semblance

if ! command -v helm >/dev/null; then
    echo "tools/chart.sh: helm is not installed; the chart was not checked" >&2
    exit 0
fi

# A helm that was built from its sources takes the cluster for one of years ago.
render() { helm template release "$chart" --kube-version 1.30.0 "$@"; }

helm lint --quiet "$chart"
for values in "$chart"/ci/*-values.yaml; do
    helm lint --quiet --strict --values "$values" "$chart"
    render --values "$values" >/dev/null
done

refused() { # A PART OF THE SENTENCE, THEN HELM'S ARGUMENTS
    local sentence=$1 answer
    shift
    if answer=$(render "$@" 2>&1); then
        echo "the chart takes $* but should say: $sentence" >&2
        exit 1
    fi
    if [[ $answer != *"$sentence"* ]]; then
        printf 'the chart refuses %s with\n%s\nbut should say: %s\n' "$*" "$answer" "$sentence" >&2
        exit 1
    fi
}
postgres=(--values "$chart/ci/postgres-values.yaml")
sqlite=(--values "$chart/ci/sqlite-values.yaml")
refused "Set database.url" --set auth.apiKey=key
refused "Set auth.apiKey" --set database.url=postgres://host/name
refused "must start with postgres://" "${postgres[@]}" --set database.url=sqlite:data.db
refused "serves one replica" "${sqlite[@]}" --set replicaCount=2
refused "set persistence.enabled to true" "${sqlite[@]}" --set persistence.enabled=false
refused "takes no database.url" "${sqlite[@]}" --set database.url=postgres://host/name
refused "persistence is for one replica" "${postgres[@]}" --set replicaCount=2,persistence.enabled=true
refused "only as ReadWriteMany" "${postgres[@]}" --set replicaCount=2,models.persistence.enabled=true
refused "replicaCounts" "${postgres[@]}" --set replicaCounts=2
echo "the chart renders, and refuses what cannot work"
