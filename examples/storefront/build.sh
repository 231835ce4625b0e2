#!/bin/sh
# Builds the service into dist/ and its end-to-end check into check/.
set -eu
cd "$(dirname "$0")"
cargo build --release --offline --locked
target=${CARGO_TARGET_DIR:-target}
mkdir -p dist check
cp "$target/release/storefront" dist/
cp "$target/release/storefront-check" check/
