#!/bin/sh
# Creates a cluster on a volume that is provably empty, and touches nothing else. Arguments go to initdb.
# A kill at any instant leaves either no PGDATA or a complete one: it appears by one rename.
set -eu
umask 077
here=$(dirname "$0")
# shellcheck source=scripts/pod/volume.sh
. "$here/volume.sh"

require_data_on_claim
if complete_cluster; then
  echo "There is a complete PostgreSQL cluster in $PGDATA already; nothing was touched."
  exit 0
fi
take_lock

# Empty means: not one file, except the lock and what a killed run of this script left. A complaint of find, as
# about a directory that it may not read, counts as something found.
found=$(find "$DATA_MOUNT" \
  \( -path "$LOCK" -o -path "$DATA_MOUNT/lost+found" -o -path "$DATA_MOUNT/.initialize.*" \) -prune \
  -o ! -type d -print 2>&1 | head -n 1)
[ -z "$found" ] ||
  refuse "The data claim has no complete cluster in $PGDATA but is not empty ($found), so nothing was initialized; find out whose data this is, then adopt it, restore a backup, or use a new claim."

rm -rf "$DATA_MOUNT"/.initialize.*
staging=$(mktemp -d "$DATA_MOUNT/.initialize.XXXXXX")
initdb -D "$staging" --username=postgres --pwfile="$PASSWORD_FILE" --auth-local=peer --auth-host=scram-sha-256 \
  --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-instructions "$@" ||
  refuse "initdb failed, so the data claim is as empty as before; its message is in this container's log."
sync
mkdir -p "$(dirname "$PGDATA")"
# An empty directory in the way would make mv move into it.
[ ! -d "$PGDATA" ] || rmdir "$PGDATA"
mv "$staging" "$PGDATA"
sync
echo "A PostgreSQL cluster was initialized in $PGDATA."
