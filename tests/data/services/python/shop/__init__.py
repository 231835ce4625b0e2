"""A small HTTP service that needs nothing but Python itself."""

VERSION = "1"
