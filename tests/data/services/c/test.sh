#!/bin/sh
set -e
cc -Wall -Wextra -Werror -o prices-test tests/prices.c src/prices.c
./prices-test
