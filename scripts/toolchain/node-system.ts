import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { UserError } from "../lib/user-error";
import { Artefact } from "./artefact";
import { makeDebianSystem } from "./debian";

const SUITE = "bookworm";
/** What the node needs beside a minimal Debian. None of their services is ever started. */
const PACKAGES = [
  ...["containerd", "runc", "containernetworking-plugins", "etcd-server"],
  ...["iptables", "iproute2", "conntrack", "socat"],
  ...["e2fsprogs", "mount", "procps", "tini"],
  ...["buildah", "busybox-static"], // for the images, see scripts/images
  "shellcheck", // for npm run check
];
/** Mount points, because the system itself is mounted read-only. */
const MOUNT_POINTS = [
  "opt/kubernetes",
  "opt/config",
  "var/lib/cni",
  "var/lib/etcd",
  "var/lib/containerd",
  "var/lib/kubelet",
  "var/lib/sandbox",
];

/** The cached root file system of the sandbox node. */
export const nodeSystem = new Artefact(`node-${SUITE}`, [SUITE, ...PACKAGES, ...MOUNT_POINTS]);

/** Where the root file system lies in the artefact. */
export const nodeRootfs = path.join(nodeSystem.directory, "rootfs");

/** Makes the root file system of the sandbox node; needs root. */
export async function buildNodeSystem(): Promise<void> {
  await nodeSystem.make(async (directory) => {
    const scratch = path.join(directory, "scratch");
    const rootfs = path.join(directory, "rootfs");
    await makeDebianSystem({ suite: SUITE, packages: PACKAGES, target: rootfs }, scratch);
    fs.rmSync(scratch, { recursive: true });
    fs.rmSync(path.join(rootfs, "dev"), { recursive: true });
    for (const directory of ["dev", ...MOUNT_POINTS])
      fs.mkdirSync(path.join(rootfs, directory), { recursive: true });
  });
}

/**
 * Runs a shell script inside the node's file system, with `work` mounted at
 * `/mnt`, in namespaces of its own: its mounts and processes end with it.
 */
export function runInNodeSystem(work: string, script: string): void {
  const setup = `set -e
    mount --bind "$1" "$1"; cd "$1"
    mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys
    for directory in tmp var/tmp run; do mount -t tmpfs tmpfs "$directory"; done
    mount --bind "$2" mnt
    mount -o remount,bind,ro .
    exec chroot . sh -ec "cd /mnt; $3"`;
  const result = spawnSync(
    "unshare",
    [
      "--mount",
      "--pid",
      "--fork",
      "--kill-child",
      "--propagation",
      "private",
      "--",
      "sh",
      "-c",
      setup,
      "sh",
      nodeRootfs,
      work,
      script,
    ],
    { encoding: "utf8", env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root" } },
  );
  if (result.status !== 0) {
    const last = `${result.stdout}\n${result.stderr}`.trim().split("\n").slice(-2).join("; ");
    throw new UserError(
      `A step inside the node's file system failed (${last}): run the same command again; if it fails again, remove ${nodeSystem.directory}.`,
    );
  }
}
