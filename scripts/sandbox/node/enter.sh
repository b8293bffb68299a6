#!/bin/bash
# Becomes the sandbox node: called in fresh mount and PID namespaces, builds the
# node's file system in them, gives it a network namespace without a way out,
# and ends as the init that every other process of the node descends from.
# When that init ends, the kernel ends all of them and removes every mount,
# interface and rule, however it came to its end.
#
# usage: enter.sh ROOTFS STATE PROGRAMS CONFIG CGROUP -- INIT...
#   ROOTFS    Debian root file system with containerd, runc, etcd ... (read-only)
#   STATE     what the node keeps: etcd, images, volumes, certificates, logs
#   PROGRAMS  directory with the Kubernetes programs (read-only)
#   CONFIG    directory with the configuration of the components (read-only)
#   CGROUP    the cgroup, below the caller's hierarchies, that holds all pods
set -euo pipefail
rootfs=$1 state=$2 programs=$3 config=$4 cgroup=$5
shift 6

cd "$rootfs"
mount --make-rprivate /
mount --bind . .
cd "$rootfs" # again: the working directory still lay below the new mount
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
for directory in run tmp var/tmp var/lib/cni; do mount -t tmpfs tmpfs "$directory"; done
# The kubelet sets these for the whole machine. Here it finds the values that it
# wants in files of its own, and the machine keeps its.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=run/sysctl/${setting%=*}
  mkdir -p "$(dirname "$file")"
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "proc/sys/${setting%=*}"
done
for directory in etcd containerd kubelet sandbox; do
  mkdir -p "$state/$directory"
  mount --bind "$state/$directory" "var/lib/$directory"
done
mkdir -p "$state/log"
mount --bind "$state/log" var/log
mount --bind -o ro "$programs" opt/kubernetes
mount --bind -o ro "$config" opt/config
mount -o remount,bind,ro .
pivot_root . mnt
umount -l /mnt
mount --make-rshared / # the kubelet and runc want propagation inside the node

# cgroup v1 has one hierarchy a controller, v2 one for all.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
  if [ -e "$hierarchy/cgroup.procs" ]; then mkdir -p "$hierarchy/$cgroup"; fi
done
cpuset=/sys/fs/cgroup/cpuset
if [ -d "$cpuset/$cgroup" ]; then # v1: a new cpuset is empty until it is told
  for file in cpuset.cpus cpuset.mems; do cat "$cpuset/$file" >"$cpuset/$cgroup/$file"; done
fi

# The network: a bridge without ports carries the node's address and the default
# route, so that the components find one and no packet finds a way out.
ip netns add node
in_net="nsenter --net=/run/netns/node"
$in_net ip link set lo up
$in_net ip link add node0 type bridge
$in_net ip addr add 172.31.0.1/24 dev node0
$in_net ip link set node0 up
$in_net ip route add default via 172.31.0.1
$in_net sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'

# Volumes are mounted before anything can use them. One that cannot be mounted
# keeps its pods from starting and no other (see toolchain/go/provisioner).
for image in /var/lib/sandbox/volumes/*.img; do
  [ -e "$image" ] || continue
  mkdir -p "${image%.img}"
  mount -o loop "$image" "${image%.img}" || echo "volume $image cannot be mounted" >&2
done

exec "$@"
