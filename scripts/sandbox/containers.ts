import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { UserError } from "../lib/user-error";
import type { SandboxNode } from "./node";

/** How long containerd may take to answer after its start, in milliseconds. */
const START_TIMEOUT = 30_000;
/** How long containers get for a clean shutdown on `down`, in milliseconds. */
const STOP_TIMEOUT = 30_000;

/** Imports the OCI archives, by image reference, that the node does not have; they stay over `down` and `up`. */
export async function importImages(node: SandboxNode, archives: ReadonlyMap<string, string>): Promise<void> {
  const present = await imageDigests(node);
  for (const [reference, archive] of archives) {
    if (present.get(reference) === digestOf(archive)) continue;
    const input = fs.openSync(archive, "r");
    const result = node.run(["ctr", "--namespace", "k8s.io", "images", "import", "-"], { input });
    fs.closeSync(input);
    if (result.status !== 0) {
      throw new UserError(
        `The image ${reference} could not be imported from ${archive}: ${result.stderr.trim()}`,
      );
    }
  }
}

/** The digests of the node's images, by reference. */
async function imageDigests(node: SandboxNode): Promise<Map<string, string>> {
  const list = () => node.run(["ctr", "--namespace", "k8s.io", "images", "list"]);
  const deadline = Date.now() + START_TIMEOUT;
  let result = list();
  for (; result.status !== 0 && Date.now() < deadline; result = list()) await delay(200);
  return new Map(
    result.stdout
      .split("\n")
      .slice(1)
      .map((line) => line.split(/\s+/))
      .map(([reference = "", , digest = ""]) => [reference, digest]),
  );
}

function digestOf(archive: string): string {
  const { stdout } = spawnSync("tar", ["--extract", "--to-stdout", "--file", archive, "index.json"], {
    encoding: "utf8",
  });
  return (JSON.parse(stdout) as { manifests: { digest: string }[] }).manifests[0]!.digest;
}

/** Ends all containers with their images' stop signals, after the kubelet, which would start them again. */
export async function stopContainers(node: SandboxNode): Promise<void> {
  node.run(["pkill", "-KILL", "-x", "kubelet"]);
  const ctr = (...args: string[]) =>
    node.run(["ctr", "--namespace", "k8s.io", ...args], { timeout: 5_000 }).stdout;
  const running = () =>
    ctr("tasks", "list")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .flatMap(([id, , state]) => (id && state === "RUNNING" ? [id] : []));
  const signals = new Map(running().map((id) => [id, stopSignal(ctr("containers", "info", id))]));
  const left = () => running().filter((id) => signals.get(id));
  for (const id of left()) ctr("tasks", "kill", "--signal", signals.get(id)!, id);
  const deadline = Date.now() + STOP_TIMEOUT;
  while (left().length > 0 && Date.now() < deadline) await delay(100);
}

/**
 * The signal that the image asks for, from what the runtime's Kubernetes part
 * keeps with a container; none for the process that only holds a pod's
 * namespaces. ctr(8) by itself sends SIGTERM, on which PostgreSQL waits for its clients.
 */
function stopSignal(info: string): string | undefined {
  const { Extensions } = JSON.parse(info || "{}") as { Extensions?: Record<string, { value: string }> };
  const metadata = Extensions?.["io.cri-containerd.container.metadata"];
  if (!metadata) return undefined;
  const { Metadata } = JSON.parse(Buffer.from(metadata.value, "base64").toString()) as {
    Metadata: { StopSignal?: string };
  };
  return Metadata.StopSignal || "SIGTERM";
}
