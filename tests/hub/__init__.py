"""A real Home Assistant beside a real daemon: `make test-hub`."""
