import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { createHash } from "node:crypto";
import * as path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { contents } from "../toolchain/artefact";
import { UserError } from "../lib/user-error";
import type { Component } from "./components";
import type { Instance } from "./instance";

const CONFIG = path.join(__dirname, "node");
const NODE_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/opt/kubernetes";

/** What the node is made of; both are built and kept by the toolchain. */
export interface NodeParts {
  /** Debian root file system with containerd, runc, etcd and the tools they need. */
  readonly rootfs: string;
  /** Directory with the Kubernetes programs, CoreDNS and the provisioner. */
  readonly programs: string;
}

/**
 * The running node of an instance: namespaces held open by one init process.
 * Nothing is recorded about it, the kernel is asked: a record could be stale.
 */
export class SandboxNode {
  private constructor(
    private readonly instance: Instance,
    /** Process id of the node's init, as the host sees it. */
    readonly pid: number,
    /** What the node was made of: see {@link fingerprintOf}. */
    readonly fingerprint: string,
  ) {}

  /** The instance's node, if its init is running. */
  static find(instance: Instance): SandboxNode | undefined {
    const pid = markedProcesses(instance).find((pid) => path.basename(commandLine(pid)[0] ?? "") === "tini");
    return pid === undefined ? undefined : new SandboxNode(instance, pid, commandLine(pid).at(-2) ?? "");
  }

  /** Starts the node's init; its components are started by {@link start}. */
  static async boot(instance: Instance, parts: NodeParts, fingerprint: string): Promise<SandboxNode> {
    const log = instance.path("boot.log");
    const output = fs.openSync(log, "w");
    const child = spawn(
      "unshare",
      [
        ...["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"],
        ...["bash", path.join(CONFIG, "enter.sh"), parts.rootfs, instance.directory, parts.programs, CONFIG],
        ...[
          instance.cgroup,
          "--",
          "tini",
          "--",
          "sh",
          "-c",
          "exec sleep infinity",
          fingerprint,
          instance.mark,
        ],
      ],
      { detached: true, stdio: ["ignore", output, output], env: { PATH: NODE_PATH, HOME: "/root" } },
    );
    fs.closeSync(output);
    let ended = false;
    child.once("exit", () => (ended = true));
    child.unref();
    for (;;) {
      const node = SandboxNode.find(instance);
      if (node) return node;
      if (ended) {
        throw new UserError(`The sandbox node did not start: ${lastLines(log, 3)} (see ${log}).`);
      }
      await delay(50);
    }
  }

  /** Names of the components among `wanted` that are running. */
  running(wanted: readonly Component[]): Set<string> {
    const lines = new Set(
      processes()
        .filter((pid) => sameNamespace("pid", pid, String(this.pid)) && leadsSession(pid))
        .map((pid) => commandLine(pid).join("\0")),
    );
    return new Set(wanted.filter((c) => lines.has(c.command.join("\0"))).map((c) => c.name));
  }

  /** Starts a component in the background; its output goes to `log/<name>.log`. */
  start(component: Component): void {
    const script = `exec >>/var/log/${component.name}.log 2>&1 </dev/null; setsid "$@" &`;
    const result = this.run(["sh", "-c", script, "sh", ...component.command], {
      onHostNetwork: component.onHostNetwork,
    });
    if (result.status !== 0) {
      throw new UserError(`The sandbox could not start ${component.name}: ${result.stderr.trim()}`);
    }
  }

  /** Runs a command inside the node and waits for its end. */
  run(
    command: readonly string[],
    options: { onHostNetwork?: boolean; input?: number; timeout?: number } = {},
  ): { status: number | null; stdout: string; stderr: string } {
    const result = spawnSync("nsenter", [...this.namespaces(options.onHostNetwork), "--", ...command], {
      encoding: "utf8",
      stdio: [options.input ?? "ignore", "pipe", "pipe"],
      maxBuffer: 64 << 20,
      timeout: options.timeout,
      env: { PATH: NODE_PATH, HOME: "/root" },
    });
    return {
      status: result.status,
      stdout: result.stdout ?? "",
      stderr: result.stderr ?? String(result.error),
    };
  }

  /** Runs kubectl inside the node, as the cluster's administrator. */
  kubectl(...args: string[]) {
    return this.run([
      "/opt/kubernetes/kubectl",
      "--kubeconfig=/var/lib/sandbox/pki/admin.kubeconfig",
      ...args,
    ]);
  }

  private namespaces(onHostNetwork = false): string[] {
    return [
      ...["--target", String(this.pid), "--mount", "--pid", "--root", "--wd"],
      ...(onHostNetwork ? [] : [`--net=/proc/${this.pid}/root/run/netns/node`]),
    ];
  }
}

/**
 * Ends the node, also one that is still booting, and waits until the kernel has
 * removed every process, mount and interface of it.
 */
export async function endNode(instance: Instance): Promise<void> {
  for (let left = markedProcesses(instance); left.length > 0; left = markedProcesses(instance)) {
    for (const pid of left) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // it has ended by itself
      }
    }
    while (left.some(isAlive)) await delay(20);
  }
}

/** Whether a process has not ended yet; the init of a PID namespace ends after all others in it. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** A hash of all that a node is made of: one with another hash is replaced by `up`. */
export function fingerprintOf(parts: NodeParts, components: readonly Component[]): string {
  const inputs = [parts.rootfs, parts.programs, ...contents(CONFIG), JSON.stringify(components)];
  return createHash("sha256").update(JSON.stringify(inputs)).digest("hex").slice(0, 12);
}

/** The node's init and the processes that lead to it. They bear the mark; the init's other children do not. */
function markedProcesses(instance: Instance): number[] {
  return processes().filter((pid) => commandLine(pid).at(-1) === instance.mark);
}

/** Removes the cgroups that a node which has ended left behind; they hold no process any more. */
export function removeCgroups(instance: Instance): void {
  const roots = ["/sys/fs/cgroup", ...listDirectories("/sys/fs/cgroup")].map((h) =>
    path.join(h, instance.cgroup),
  );
  for (const root of roots) {
    if (fs.existsSync(root)) removeCgroup(root);
  }
}

function removeCgroup(directory: string): void {
  for (const child of listDirectories(directory)) removeCgroup(child);
  try {
    fs.rmdirSync(directory); // the kernel's files in it are no obstacle
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function listDirectories(directory: string): string[] {
  return fs
    .readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => path.join(directory, entry.name));
}

function processes(): number[] {
  return fs
    .readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** Whether it was started by {@link SandboxNode.start}; a child of a component, such as socat's, leads none. */
function leadsSession(pid: number): boolean {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    // proc(5): after the name in parentheses come state, ppid, pgrp, session.
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3]) === pid;
  } catch {
    return false; // it has ended
  }
}

/** The words of a process's command line; none if it has ended. */
function commandLine(pid: number): string[] {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  } catch {
    return [];
  }
}

function sameNamespace(kind: "pid", pid: number, other: string): boolean {
  try {
    return fs.readlinkSync(`/proc/${pid}/ns/${kind}`) === fs.readlinkSync(`/proc/${other}/ns/${kind}`);
  } catch {
    return false; // it has ended
  }
}

/** The last lines of a file in one line, for an error message. */
export function lastLines(file: string, count: number): string {
  const lines = fs.existsSync(file) ? fs.readFileSync(file, "utf8").trim().split("\n") : [];
  return lines.slice(-count).join("; ") || "no output";
}
