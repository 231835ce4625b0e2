#!/bin/sh
set -e
echo "provisioning $WINDLASS_VERSION"
apt-get install -q -y shop-tools
cp greeting provisioned
