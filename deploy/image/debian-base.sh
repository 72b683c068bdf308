#!/bin/sh
# `sh debian-base.sh NAME`: a base image for machines that reach Debian's packages but no image registry. Stands in for
# python:3.11-slim-bookworm: the same release of Debian, with its own Python 3.11. Needs root, debootstrap and buildah.
set -eu
packages=ca-certificates,libgomp1,python3,python3-venv
root="$(mktemp -d)"
debootstrap --variant=minbase --include="$packages" bookworm "$root" >&2
ln -s python3 "$root/usr/bin/python"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* \
    "$root"/usr/share/locale/* "$root"/var/log/*
find "$root" -name __pycache__ -prune -exec rm -rf {} +
container="$(buildah from scratch)"
buildah add -q "$container" "$root" / >&2
buildah config --cmd python "$container"
buildah commit -q --rm --format docker "$container" "$1"
rm -rf "$root"
