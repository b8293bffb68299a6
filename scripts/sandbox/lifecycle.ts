import * as fs from "node:fs";
import * as https from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import type { V1Node } from "@kubernetes/client-node";
import { undoneWhenInterrupted } from "../lib/command";
import { holdLock } from "../lib/lock";
import { UserError } from "../lib/user-error";
import { CertificateAuthority } from "./certificates";
import { API_SERVICE_ADDRESS, components, NODE_ADDRESS, NODE_NAME, type Component } from "./components";
import type { Instance } from "./instance";
import { writeKubeconfig } from "./kubeconfig";
import { importImages, stopContainers } from "./containers";
import { availableMemory, requireLinuxRoot, requireMemory } from "./machine";
import { endNode, fingerprintOf, lastLines, type NodeParts, removeCgroups, SandboxNode } from "./node";
import { freePort, isFree } from "./ports";

/** How long the API server and the node may take to become ready, in milliseconds. */
const READY_TIMEOUT = 120_000;

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
    const port = await choosePort(instance, options.port);
    const wanted = components(port, instance.cgroup);
    writeKubeconfig(instance.kubeconfig, {
      context: instance.context,
      server: `https://127.0.0.1:${port}`,
      pki: instance.path("sandbox", "pki"),
      certificate: "admin",
    });
    const fingerprint = fingerprintOf(parts, components(0, instance.cgroup));
    const node = SandboxNode.find(instance);
    if (node?.fingerprint === fingerprint) return complete(instance, node, wanted, parts);
    // Half a node is of no use to anybody; one that was complete is left as it is.
    await undoneWhenInterrupted(
      () => endNode(instance),
      async () => complete(instance, await bootNode(instance, parts, fingerprint), wanted, parts),
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

async function bootNode(instance: Instance, parts: Parts, fingerprint: string): Promise<SandboxNode> {
  requireMemory(availableMemory());
  // One that is made of other parts, or is still booting for a run that was
  // killed, and the cgroups of one that was, which would hold up the kubelet.
  await stop(instance);
  return SandboxNode.boot(instance, parts, fingerprint);
}

/** Starts what is missing of a node, and waits until it is ready. */
async function complete(
  instance: Instance,
  node: SandboxNode,
  wanted: readonly Component[],
  parts: Parts,
): Promise<void> {
  const running = node.running(wanted);
  const missing = wanted.filter((component) => !running.has(component.name));
  missing.filter((component) => !component.afterApiServer).forEach((component) => node.start(component));
  await importImages(node, parts.images);
  await waitFor(instance, wanted, node, "API server", () => apiServerReady(instance));
  missing.filter((component) => component.afterApiServer).forEach((component) => node.start(component));
  applyAddons(node);
  const since = running.has("kubelet") ? new Date(0) : new Date();
  const ready = () =>
    nodeReady(node, since) &&
    defaultServiceAccountExists(node) &&
    node.running(wanted).size === wanted.length;
  await waitFor(instance, wanted, node, "node", () => Promise.resolve(ready()));
}

async function stop(instance: Instance): Promise<void> {
  const node = SandboxNode.find(instance);
  if (node) await stopContainers(node);
  await endNode(instance);
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

/**
 * Keeps the port of the last time where it is free, so that open kubeconfigs
 * stay right. Where another is asked for, the listener on the old one is ended.
 */
async function choosePort(instance: Instance, asked?: number): Promise<number> {
  const last = instance.port;
  const node = SandboxNode.find(instance);
  const listening = last !== undefined && node?.running(components(last, instance.cgroup)).has("relay-out");
  if (listening && (asked ?? last) === last) return last;
  if (asked !== undefined && !(await isFree(asked))) {
    throw new UserError(`Port ${asked} of 127.0.0.1 is in use: leave out --port, or name a free one.`);
  }
  if (listening) node?.run(["pkill", "-KILL", "-f", `^socat TCP-LISTEN:${last},`]);
  const port = asked ?? (last !== undefined && (await isFree(last)) ? last : await freePort());
  return (instance.port = port);
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

/** Whether the kubelet has said so since then: what it said before it was last stopped does not count. */
function nodeReady(node: SandboxNode, since: Date): boolean {
  const { stdout } = node.kubectl("get", "node", NODE_NAME, "-o", "json");
  const { status } = JSON.parse(stdout || "{}") as V1Node;
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  // The time of the heartbeat has a resolution of a second.
  return (
    ready?.status === "True" && Number(new Date(ready.lastHeartbeatTime ?? 0)) >= since.getTime() - 1_000
  );
}

/** Without it, which a new cluster gets last, no pod can be created. */
function defaultServiceAccountExists(node: SandboxNode): boolean {
  return node.kubectl("get", "serviceaccount", "default", "-n", "default").status === 0;
}

function applyAddons(node: SandboxNode): void {
  const result = node.kubectl("apply", "--server-side", "-f", "/opt/config/addons.yaml");
  if (result.status !== 0)
    throw new UserError(`The sandbox's add-ons could not be applied: ${result.stderr.trim()}`);
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
        `The sandbox's ${what} was not ready after ${READY_TIMEOUT / 1000} s${
          dead ? `: ${dead.name} has ended with "${lastLines(log, 1)}"` : ""
        } (logs: ${instance.path("log")}); run "npm run sandbox -- down --name ${instance.name}" and then "up", which keeps all volumes.`,
      );
    }
    await delay(200);
  }
}
