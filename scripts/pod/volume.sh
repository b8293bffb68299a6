# shellcheck shell=sh
# What every script on the data volume needs, to be sourced: how to refuse, where PGDATA lies, who may write.
# DATA_MOUNT is where the claim is mounted; PGDATA is the cluster's directory on it.

LOCK="$DATA_MOUNT/.durable-postgres.lock"

# The sentence goes to the log and to the termination message, which `kubectl describe pod` shows.
refuse() {
  printf '%s\n' "$1" >&2
  printf '%s\n' "$1" 2>/dev/null >"${TERMINATION_LOG:-/dev/termination-log}" || :
  exit 78
}

# Data anywhere but on the claim is lost with the container. An image's own VOLUME is a mount like any other.
require_data_on_claim() {
  covering=''
  while read -r _ _ _ _ point _; do
    case $point in
      "$PGDATA"/*) refuse "$point is a mount inside PGDATA $PGDATA, so a part of the cluster would lie elsewhere than on the data claim at $DATA_MOUNT; remove that mount." ;;
    esac
    case "$PGDATA/" in
      "${point%/}"/*) [ "${#point}" -lt "${#covering}" ] || covering=$point ;;
    esac
  done <"${MOUNTINFO:-/proc/self/mountinfo}"
  [ "$covering" = "$DATA_MOUNT" ] ||
    refuse "PGDATA $PGDATA lies on the mount $covering and not on the data claim at $DATA_MOUNT, so its data would be lost with the container; choose a PGDATA below $DATA_MOUNT that no other mount covers."
}

complete_cluster() {
  [ -s "$PGDATA/PG_VERSION" ] && [ -s "$PGDATA/global/pg_control" ]
}

# Held on descriptor 9 until the last process that inherited it has ended. One writer, also across pods of a node,
# where PostgreSQL's own interlock is blind.
take_lock() {
  (: >>"$LOCK") 2>/dev/null ||
    refuse "The data claim at $DATA_MOUNT is not writable for uid $(id -u); make that user the volume's owner, or mount it writable."
  exec 9>>"$LOCK"
  flock -n 9 ||
    refuse "Another server or job holds $LOCK, and two writers destroy a cluster; wait until the other pod has ended."
}
