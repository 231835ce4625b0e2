#!/bin/sh
# What answers is the version that was deployed.
said=$(curl -fsS "$WINDLASS_URL/version")
echo "it is $said"
test "$said" = "$WINDLASS_VERSION"
