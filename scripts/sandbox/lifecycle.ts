import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as https from "node:https";
import * as net from "node:net";
import type { V1Node } from "@kubernetes/client-node";
import { holdLock } from "../lib/lock";
import { UserError } from "../lib/user-error";
import { CertificateAuthority } from "./certificates";
import { API_SERVICE_ADDRESS, components, NODE_ADDRESS, NODE_NAME, type Component } from "./components";
import type { Instance } from "./instance";
import { writeKubeconfig } from "./kubeconfig";
import { delay, lastLines, type NodeParts, removeCgroups, SandboxNode } from "./node";

/** How long the API server and the node may take to become ready, in milliseconds. */
const READY_TIMEOUT = 120_000;
/** What the node's own processes and one small database take, with room to spare, in bytes. */
const NODE_MEMORY = 1.5 * 2 ** 30;
/** How long containers get for a clean shutdown on `down`, in milliseconds. */
const STOP_TIMEOUT = 30_000;

export interface Parts extends NodeParts {
  /** OCI archives, by image reference, that the node must have. */
  readonly images: ReadonlyMap<string, string>;
}

/** What {@link status} found. */
export interface Status {
  readonly running: boolean;
  readonly port?: number;
  /** Components that should run and do not. */
  readonly missing: readonly string[];
  readonly apiServer: boolean;
}

/** Brings an instance up, or mends one of which parts are missing. Idempotent. */
export function up(instance: Instance, parts: Parts, options: { port?: number } = {}): Promise<void> {
  return exclusively(instance, async () => {
    fs.mkdirSync(instance.directory, { recursive: true, mode: 0o700 });
    await issueCertificates(instance);
    let node = SandboxNode.find(instance);
    if (!node) {
      requireMemory(availableMemory());
      removeCgroups(instance); // those of a node that was killed would hold up the kubelet
      node = await SandboxNode.boot(instance, parts);
    }
    const port = await choosePort(instance, node, options.port);
    writeKubeconfig(instance.kubeconfig, {
      context: instance.context,
      server: `https://127.0.0.1:${port}`,
      pki: instance.path("sandbox", "pki"),
      certificate: "admin",
    });
    const wanted = components(port, instance.cgroup);
    const running = node.running(wanted);
    const missing = wanted.filter((component) => !running.has(component.name));
    missing.filter((component) => !component.afterApiServer).forEach((component) => node.start(component));
    importImages(node, parts.images);
    await waitFor(instance, wanted, node, "the API server", () => apiServerReady(instance));
    missing.filter((component) => component.afterApiServer).forEach((component) => node.start(component));
    applyAddons(node);
    const since = running.has("kubelet") ? new Date(0) : new Date();
    await waitFor(instance, wanted, node, "the node", () =>
      Promise.resolve(nodeReady(node, since) && defaultServiceAccountExists(node)),
    );
  });
}

/** Stops an instance: servers in its pods get a clean shutdown, then nothing of it is left but its data. */
export function down(instance: Instance): Promise<void> {
  return exclusively(instance, () => stop(instance));
}

/** Stops an instance and removes all of its data, volumes included. */
export function reset(instance: Instance): Promise<void> {
  return exclusively(instance, async () => {
    await stop(instance);
    fs.rmSync(instance.directory, { recursive: true, force: true });
  });
}

async function stop(instance: Instance): Promise<void> {
  const node = SandboxNode.find(instance);
  if (node) {
    await stopContainers(node);
    await node.kill();
  }
  removeCgroups(instance);
}

/** Looks at an instance without changing anything. */
export async function status(instance: Instance): Promise<Status> {
  const node = SandboxNode.find(instance);
  const port = instance.port;
  if (!node || !port) return { running: false, missing: [], apiServer: false };
  const wanted = components(port, instance.cgroup);
  const running = node.running(wanted);
  return {
    running: true,
    port,
    missing: wanted.map((c) => c.name).filter((name) => !running.has(name)),
    apiServer: await apiServerReady(instance),
  };
}

function requireLinuxRoot(): void {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    throw new UserError(
      "The sandbox cluster needs Linux and root, because it makes namespaces and mounts volumes: run it with sudo, or name a cluster of yours with --context NAME.",
    );
  }
}

/** @throws {UserError} where the node would have to fight for memory, of which `available` bytes are left */
export function requireMemory(available: number): void {
  if (available < NODE_MEMORY) {
    throw new UserError(
      `This machine has ${Math.floor(available / 2 ** 20)} MiB of memory available and the sandbox cluster needs ${NODE_MEMORY / 2 ** 20}: end other programs, or name a cluster elsewhere with --context NAME.`,
    );
  }
}

/** What the kernel can give without swapping; `os.freemem()` leaves out what it can take back from caches. */
function availableMemory(): number {
  const line = /^MemAvailable:\s+(\d+) kB$/m.exec(fs.readFileSync("/proc/meminfo", "utf8"));
  return line ? Number(line[1]) * 1024 : Infinity;
}

/** Runs `work` while no other command can change the instance. */
async function exclusively<T>(instance: Instance, work: () => Promise<T>): Promise<T> {
  requireLinuxRoot();
  // Beside the directory, which reset removes.
  const release = holdLock(
    `${instance.directory}.lock`,
    `Another command is working on the sandbox "${instance.name}": wait until it has ended, or use another --name.`,
  );
  try {
    return await work();
  } finally {
    release();
  }
}

async function issueCertificates(instance: Instance): Promise<void> {
  const pki = instance.path("sandbox", "pki");
  fs.mkdirSync(instance.path("sandbox", "volumes"), { recursive: true });
  const ca = await CertificateAuthority.open(pki);
  ca.issueServiceAccountKeys();
  await ca.issue("etcd", { user: "etcd", serves: ["127.0.0.1"] });
  await ca.issue("apiserver", {
    user: "sandbox:apiserver",
    serves: [
      "127.0.0.1",
      NODE_ADDRESS,
      API_SERVICE_ADDRESS,
      "localhost",
      "kubernetes",
      "kubernetes.default",
      "kubernetes.default.svc",
    ],
  });
  await ca.issue("kubelet", {
    user: `system:node:${NODE_NAME}`,
    group: "system:nodes",
    serves: [NODE_ADDRESS, NODE_NAME],
  });
  await ca.issue("admin", { user: "sandbox:admin", group: "system:masters" });
  for (const name of ["kube-controller-manager", "kube-scheduler", "kube-proxy"])
    await ca.issue(name, { user: `system:${name}` });
  for (const name of ["coredns", "provisioner"]) await ca.issue(name, { user: `sandbox:${name}` });
  for (const name of [
    "admin",
    "kubelet",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "coredns",
    "provisioner",
  ]) {
    writeKubeconfig(`${pki}/${name}.kubeconfig`, {
      context: "sandbox",
      server: `https://${NODE_ADDRESS}:6443`,
      pki,
      certificate: name,
    });
  }
}

/** Keeps the port of the last time where it is free, so that open kubeconfigs stay right. */
async function choosePort(instance: Instance, node: SandboxNode, asked?: number): Promise<number> {
  const last = instance.port;
  const listening = last !== undefined && node.running(components(last, instance.cgroup)).has("relay-out");
  if (listening && (asked ?? last) === last) return last;
  const wanted = asked ?? last;
  if (wanted && (await isFree(wanted))) return (instance.port = wanted);
  if (asked) {
    throw new UserError(`Port ${asked} of 127.0.0.1 is in use: leave out --port, or name a free one.`);
  }
  return (instance.port = await freePort());
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function apiServerReady(instance: Instance): Promise<boolean> {
  const pki = instance.path("sandbox", "pki");
  return new Promise((resolve) => {
    const request = https.get(
      {
        ...{ host: "127.0.0.1", port: instance.port, path: "/readyz", timeout: 2_000, agent: false },
        ca: fs.readFileSync(`${pki}/ca.crt`),
        cert: fs.readFileSync(`${pki}/admin.crt`),
        key: fs.readFileSync(`${pki}/admin.key`),
      },
      (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      },
    );
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
}

function kubectl(node: SandboxNode, ...args: string[]) {
  return node.run(["/opt/kubernetes/kubectl", "--kubeconfig=/var/lib/sandbox/pki/admin.kubeconfig", ...args]);
}

/** Whether the kubelet has said so since then: what it said before it was last stopped does not count. */
function nodeReady(node: SandboxNode, since: Date): boolean {
  const { stdout } = kubectl(node, "get", "node", NODE_NAME, "-o", "json");
  const { status } = JSON.parse(stdout || "{}") as V1Node;
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  // The time of the heartbeat has a resolution of a second.
  return (
    ready?.status === "True" && Number(new Date(ready.lastHeartbeatTime ?? 0)) >= since.getTime() - 1_000
  );
}

/** Without it, which a new cluster gets last, no pod can be created. */
function defaultServiceAccountExists(node: SandboxNode): boolean {
  return kubectl(node, "get", "serviceaccount", "default", "-n", "default").status === 0;
}

function applyAddons(node: SandboxNode): void {
  const result = kubectl(node, "apply", "--server-side", "-f", "/opt/config/addons.yaml");
  if (result.status !== 0)
    throw new UserError(`The sandbox's add-ons could not be applied: ${result.stderr.trim()}`);
}

/** Imports the images that the node does not have; they stay over `down` and `up`. */
function importImages(node: SandboxNode, images: ReadonlyMap<string, string>): void {
  const ctr = (...args: string[]) => node.run(["ctr", "--namespace", "k8s.io", ...args]);
  const deadline = Date.now() + READY_TIMEOUT;
  let present = ctr("images", "list", "--quiet");
  while (present.status !== 0 && Date.now() < deadline) {
    spawnSync("sleep", ["0.2"]); // containerd has just been started
    present = ctr("images", "list", "--quiet");
  }
  const names = new Set(present.stdout.split("\n"));
  for (const [reference, archive] of images) {
    if (names.has(reference)) continue;
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

/** Ends all containers with their images' stop signals, after the kubelet, which would start them again. */
async function stopContainers(node: SandboxNode): Promise<void> {
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

async function waitFor(
  instance: Instance,
  wanted: readonly Component[],
  node: SandboxNode,
  what: string,
  ready: () => Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT;
  while (!(await ready())) {
    if (Date.now() > deadline) {
      const running = node.running(wanted);
      const dead = wanted.find((c) => !running.has(c.name));
      const log = instance.path("log", `${(dead ?? wanted[0]!).name}.log`);
      throw new UserError(
        `The sandbox's ${what.replace("the ", "")} was not ready after ${READY_TIMEOUT / 1000} s${
          dead ? `: ${dead.name} has ended with "${lastLines(log, 1)}"` : ""
        } (logs: ${instance.path("log")}); run "npm run sandbox -- up" again, or "reset" to start over without its data.`,
      );
    }
    await delay(200);
  }
}
