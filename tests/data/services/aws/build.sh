#!/bin/sh
set -e
mkdir -p dist
cp greeting start dist/
echo "$WINDLASS_VERSION" >dist/version
