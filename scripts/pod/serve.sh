#!/bin/sh
# Serves the cluster in PGDATA, or says why not. It holds no way to create one. Arguments go to the server.
set -eu
here=$(dirname "$0")
# shellcheck source=scripts/pod/volume.sh
. "$here/volume.sh"

require_data_on_claim
complete_cluster ||
  refuse "There is no complete PostgreSQL cluster in $PGDATA on the data claim, and a server never creates one; if the claim is the right one and new, run the initialize job, otherwise restore a backup."
take_lock
# exec: the server becomes process 1, gets the signals, and keeps the lock.
exec postgres -D "$PGDATA" "$@"
