import * as fs from "node:fs";
import {
  AppsV1Api,
  BatchV1Api,
  CoreV1Api,
  KubeConfig,
  KubernetesObjectApi,
  PatchStrategy,
} from "@kubernetes/client-node";
import type { KubernetesObject } from "@kubernetes/client-node";
import { stateDir } from "../../scripts/lib/paths";
import { Instance } from "../../scripts/sandbox/instance";
import * as lifecycle from "../../scripts/sandbox/lifecycle";
import { SandboxNode } from "../../scripts/sandbox/node";
import { sandboxParts } from "../../scripts/toolchain/assemble";

/**
 * A sandbox cluster of the tests' own. Every suite that needs one names it, and
 * starts and ends with nothing of it, whatever an earlier, killed run left.
 */
export class TestCluster {
  readonly instance: Instance;

  constructor(name: string) {
    this.instance = new Instance(`test-${name}`);
  }

  async up(): Promise<void> {
    await lifecycle.up(this.instance, await sandboxParts());
  }

  async down(): Promise<void> {
    await lifecycle.down(this.instance);
  }

  /** Removes the cluster, its volumes and the state of what was deployed to it. */
  async remove(): Promise<void> {
    await lifecycle.reset(this.instance);
    fs.rmSync(stateDir("environments", `sandbox-${this.instance.name}`), { recursive: true, force: true });
  }

  /** The running node. */
  get node(): SandboxNode {
    const node = SandboxNode.find(this.instance);
    if (!node) throw new Error(`cluster ${this.instance.name} is not running`);
    return node;
  }

  get config(): KubeConfig {
    const config = new KubeConfig();
    config.loadFromFile(this.instance.kubeconfig);
    return config;
  }

  get core(): CoreV1Api {
    return this.config.makeApiClient(CoreV1Api);
  }

  get apps(): AppsV1Api {
    return this.config.makeApiClient(AppsV1Api);
  }

  get batch(): BatchV1Api {
    return this.config.makeApiClient(BatchV1Api);
  }

  /** Server-side apply. */
  async apply(...objects: (KubernetesObject & { spec?: unknown })[]): Promise<void> {
    const api = this.config.makeApiClient(KubernetesObjectApi);
    for (const object of objects) {
      await api.patch(object, undefined, undefined, "tests", true, PatchStrategy.ServerSideApply);
    }
  }

  /** Runs a command in a container and returns its output; the exit code has to be 0. */
  exec(namespace: string, pod: string, ...command: string[]): string {
    const result = this.kubectl("exec", "-n", namespace, pod, "--", ...command);
    if (result.status !== 0) throw new Error(`${command.join(" ")} in ${pod}: ${result.stderr}`);
    return result.stdout;
  }

  kubectl(...args: string[]) {
    return this.node.kubectl(...args);
  }

  /** Sends SIGKILL to a container's first process, from outside the container. */
  async killContainer(namespace: string, pod: string, container: string): Promise<void> {
    const { status } = await this.core.readNamespacedPod({ namespace, name: pod });
    const id = status!
      .containerStatuses!.find(({ name }) => name === container)!
      .containerID!.replace("containerd://", "");
    const result = this.node.run([
      "ctr",
      "--namespace",
      "k8s.io",
      "tasks",
      "kill",
      "--signal",
      "SIGKILL",
      id,
    ]);
    if (result.status !== 0) throw new Error(result.stderr);
  }
}

/** Polls until `probe` returns something other than undefined or false, or throws what it last threw. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined | false>,
  seconds = 60,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  let last: unknown = "not yet";
  while (Date.now() < deadline) {
    try {
      const result = await probe();
      if (result !== undefined && result !== false) return result;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  throw new Error(
    `${what}: not within ${seconds} s (${last instanceof Error ? last.message : String(last)})`,
  );
}
