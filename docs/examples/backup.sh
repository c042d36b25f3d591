#!/bin/sh
# backup.sh TARGET.tar.gz    what cannot be made again, of the checkout that is the working folder; the server may run
set -eu
umask 077
target=$1
[ -f instance/registry.json ] || { echo "no instance/registry.json here: run it in the checkout" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/instance"

# registry.json is replaced in one step, whoever writes meanwhile; archives and uploaded are what it points to
for name in registry.json tokens.json settings.env catalogue.ini corrections teach archives uploaded; do
    [ ! -e "instance/$name" ] || cp -a "instance/$name" "$work/instance/"
done

tar -czf "$target.partial" -C "$work" instance -C "$PWD" models
mv "$target.partial" "$target"
