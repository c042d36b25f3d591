#!/bin/sh
# backup.sh TARGET.tar.gz    what cannot be made again, of the checkout that is the working folder; the server may run
set -eu
umask 077
target=$1
[ -f instance/registry.sqlite3 ] || { echo "no instance/registry.sqlite3 here: run it in the checkout" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/instance"

# SQLite copies a state between two changes, whoever writes meanwhile
.venv/bin/python -c 'import sqlite3, sys
source, copy = sqlite3.connect("instance/registry.sqlite3"), sqlite3.connect(sys.argv[1])
source.backup(copy)
assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)' "$work/instance/registry.sqlite3"

# archives and uploaded are what registrations point to
for name in tokens.json settings.env catalogue.ini corrections archives uploaded; do
    [ ! -e "instance/$name" ] || cp -a "instance/$name" "$work/instance/"
done

tar -czf "$target.partial" -C "$work" instance -C "$PWD" models
mv "$target.partial" "$target"
