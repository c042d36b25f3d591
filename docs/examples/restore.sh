#!/bin/sh
# restore.sh BACKUP.tar.gz    into the checkout that is the working folder: the same path as before, and the server stopped
set -eu
backup=$1
tar -tzf "$backup" | grep -Eqx 'instance/registry\.(json|sqlite3)' || { echo "$backup is no backup" >&2; exit 1; }
aside=instance.before-$(date +%Y%m%dT%H%M%S)
[ ! -e instance ] || mv instance "$aside"
tar -xzf "$backup"
echo "restored; what was there is $aside"
