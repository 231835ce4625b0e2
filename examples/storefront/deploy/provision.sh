#!/bin/sh
# Runs once while an image is baked, in the directory that the service will run in.
set -eu
[ -x storefront ] || { echo "the artifact has no storefront" >&2; exit 1; }
printf 'storefront %s\ncommit %s\n' "${WINDLASS_VERSION:-unknown}" "${WINDLASS_COMMIT:-unknown}" > release.txt
cat release.txt
