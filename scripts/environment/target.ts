import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { KubeConfig, VersionApi } from "@kubernetes/client-node";
import spawn from "nano-spawn";
import { postgresImage } from "../images/build";
import { stateDir } from "../lib/paths";
import { step } from "../lib/progress";
import { UserError } from "../lib/user-error";
import { Instance } from "../sandbox/instance";
import * as lifecycle from "../sandbox/lifecycle";
import { sandboxParts } from "../toolchain/assemble";
import { findProgram } from "../lib/find-program";
import { forgetEnvironment } from "./stack";

/** A cluster that the stack is deployed to. */
export interface Target {
  /** Name of the environment; its Pulumi state is kept under it. */
  readonly name: string;
  /** The kubeconfig that has {@link context}; undefined where it is the user's own. */
  readonly kubeconfig?: string;
  readonly context: string;
  /** One sentence that says which cluster it is. */
  readonly description: string;
  /** Where volumes lie on this machine, if they do. */
  readonly volumes?: string;
  /** A kubectl that reaches it, where PATH may have none. */
  readonly kubectl?: string;
  /** What a command needs to choose this cluster again, with a space behind it; empty for the default. */
  readonly options: string;
  /** Settings of the stack that only this cluster needs. */
  readonly settings: Readonly<Record<string, string | number>>;
}

const REACH_TIMEOUT_MS = 10_000;
const KIND_CLUSTER = "durable-postgres";
/** The PostgreSQL that `npm start` runs in the sandbox, where official images cannot be pulled. */
const SANDBOX_MAJOR = 18;

/**
 * The cluster to deploy to: the context that the user named; else a kind
 * cluster where Docker runs and kind is installed; else the sandbox cluster.
 * Never the current context unasked: it may be production.
 */
export async function chooseTarget(options: {
  readonly context?: string;
  readonly sandbox?: string;
}): Promise<Target> {
  if (options.context !== undefined) return namedContext(options.context);
  if (!options.sandbox && (await canUseKind())) return kindCluster();
  return sandboxCluster(options.sandbox ?? "dev");
}

async function namedContext(context: string): Promise<Target> {
  const config = new KubeConfig();
  try {
    config.loadFromDefault();
  } catch (error) {
    throw new UserError(
      `Your kubeconfig cannot be read (${(error as Error).message}): correct KUBECONFIG or the file.`,
    );
  }
  const known = config.getContexts().map(({ name }) => name);
  if (!known.includes(context)) {
    throw new UserError(
      `Your kubeconfig has no context "${context}"; it knows ${known.join(", ") || "none"}: correct --context or KUBECONFIG.`,
    );
  }
  config.setCurrentContext(context);
  await requireReachable(config, context);
  return {
    name: environmentName(context),
    context,
    description: `the cluster of context "${context}" in your kubeconfig`,
    options: `--context ${context} `,
    settings: {},
  };
}

/** A directory's name for a context; two contexts never share one. */
export function environmentName(context: string): string {
  const plain = context.replaceAll(/[^\w.-]/g, "_");
  const suffix = createHash("sha256").update(context).digest("hex").slice(0, 8);
  return plain === context ? `context-${context}` : `context-${plain}-${suffix}`;
}

async function requireReachable(config: KubeConfig, context: string): Promise<void> {
  const answer = config.makeApiClient(VersionApi).getCode();
  const late = delay(REACH_TIMEOUT_MS, undefined, { ref: false }).then(() => {
    throw new Error(`no answer within ${REACH_TIMEOUT_MS / 1000} s`);
  });
  try {
    await Promise.race([answer, late]);
  } catch (error) {
    const cause = (error as Error).cause ?? error;
    const reason = (cause as Error).message.split("\n")[0] || (cause as NodeJS.ErrnoException).code;
    throw new UserError(
      `The cluster of context "${context}" at ${config.getCurrentCluster()?.server} cannot be reached (${reason}): start it, or name another with --context.`,
    );
  }
}

/** Whether kind is installed and a Docker engine answers. */
export async function canUseKind(searchPath = process.env.PATH ?? ""): Promise<boolean> {
  const docker = findProgram("docker", searchPath);
  if (!docker || !findProgram("kind", searchPath)) return false;
  return spawn(docker, ["info"]).then(
    () => true,
    () => false,
  );
}

async function kindCluster(): Promise<Target> {
  const name = `kind-${KIND_CLUSTER}`;
  const kubeconfig = stateDir("kind", "kubeconfig");
  fs.mkdirSync(stateDir("kind"), { recursive: true });
  const options = ["--name", KIND_CLUSTER, "--kubeconfig", kubeconfig];
  const { stdout } = await spawn("kind", ["get", "clusters"]);
  if (stdout.split("\n").includes(KIND_CLUSTER)) {
    await spawn("kind", ["export", "kubeconfig", ...options]);
  } else {
    forgetEnvironment(name);
    await step(`creating ${name}`, () => spawn("kind", ["create", "cluster", ...options, "--wait", "3m"]));
  }
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  await requireReachable(config, name);
  return {
    name,
    kubeconfig,
    context: name,
    description: `kind cluster "${KIND_CLUSTER}"`,
    options: "",
    settings: {},
  };
}

/** Name of the environment of a sandbox cluster. */
export function sandboxEnvironment(name: string): string {
  return `sandbox-${name}`;
}

/** The sandbox cluster of that name, brought up. */
export async function sandboxCluster(name: string): Promise<Target> {
  const instance = new Instance(name);
  const parts = await sandboxParts();
  await step(`sandbox cluster "${name}"`, () => lifecycle.up(instance, parts));
  return {
    name: sandboxEnvironment(name),
    kubeconfig: instance.kubeconfig,
    context: instance.context,
    description: `sandbox cluster "${name}" on this machine`,
    volumes: instance.path("sandbox", "volumes"),
    kubectl: findProgram("kubectl") ? undefined : path.join(parts.programs, "kubectl"),
    options: name === "dev" ? "" : `--sandbox ${name} `,
    settings: {
      image: postgresImage(SANDBOX_MAJOR).reference,
      imageFamily: "debian",
      majorVersion: SANDBOX_MAJOR,
    },
  };
}
