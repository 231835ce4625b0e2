#!/bin/sh
# Unit tests.
set -eu
cd "$(dirname "$0")"
exec cargo test --offline --locked
