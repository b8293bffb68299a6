import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createRequire } from "node:module";
import * as path from "node:path";
import type { Readable } from "node:stream";

/** The child processes of the language host: programs, policy packs, plugins. */
export type NodeProcess = ChildProcessByStdio<null, Readable, Readable>;

/** The runtime options of Pulumi.yaml that concern how Node is started. */
export interface RuntimeOptions {
  readonly nodeargs: readonly string[];
  /** What the SDK's runners read from the environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** Less than the five seconds after which the engine kills this process itself. */
const GRACE_MS = 3000;

const running = new Set<NodeProcess>();

// The last resort when this process ends without having stopped its children.
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/**
 * Reads `runtime.options` of Pulumi.yaml as the Pulumi documentation of the
 * project file describes them. `packagemanager` only concerns installation.
 */
export function runtimeOptions(options: Readonly<Record<string, unknown>> = {}): RuntimeOptions {
  const { typescript = true, nodeargs = "", tsconfig = "" } = options;
  if (typeof typescript !== "boolean") throw new Error("runtime.options.typescript must be true or false.");
  if (typeof nodeargs !== "string") throw new Error("runtime.options.nodeargs must be a string.");
  if (typeof tsconfig !== "string") throw new Error("runtime.options.tsconfig must be the path of a file.");
  return {
    nodeargs: splitWords(nodeargs),
    env: {
      ...(typescript && { PULUMI_NODEJS_TYPESCRIPT: "true" }),
      ...(tsconfig && { PULUMI_NODEJS_TSCONFIG_PATH: tsconfig }),
    },
  };
}

/** Splits a line into words as a shell does: blanks separate, quotes and backslashes keep together. */
export function splitWords(line: string): string[] {
  const parts = /\s+|'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)|([^\s'"\\]+)|(.)/gs;
  const words: string[] = [];
  let word: string | undefined;
  for (const [, single, double, escaped, plain, rest] of line.matchAll(parts)) {
    if (rest !== undefined)
      throw new Error(`runtime.options.nodeargs has an open quote or backslash: ${line}`);
    const part = single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? escaped ?? plain;
    if (part !== undefined) word = (word ?? "") + part;
    else if (word !== undefined) {
      words.push(word);
      word = undefined;
    }
  }
  return word === undefined ? words : [...words, word];
}

/** Finds a runner of the SDK that the program itself has installed, since both must be one version. */
export function sdkRunner(runner: string, programDirectory: string): string {
  try {
    return createRequire(path.join(programDirectory, "package.json")).resolve(`@pulumi/pulumi/cmd/${runner}`);
  } catch {
    throw new Error(
      `${programDirectory} has no @pulumi/pulumi with cmd/${runner}: run "npm ci --ignore-scripts" there.`,
    );
  }
}

/**
 * Starts Node, the same one that runs this process. Output is piped, not
 * inherited: Node may make a shared stdout non-blocking for its other users.
 */
export function startNode(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv): NodeProcess {
  const child = spawn(process.execPath, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  child.on("exit", () => running.delete(child)).on("error", () => running.delete(child));
  return child;
}

/** Waits for the end and for all output; rejects when the process could not be started at all. */
export function ended(child: NodeProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.on("error", reject).on("close", (code, signal) => resolve({ code, signal }));
  });
}

/** Asks for the end as the engine does, and kills after the grace period. */
export async function stopNode(child: NodeProcess): Promise<void> {
  if (!running.has(child)) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGINT");
  const kill = setTimeout(() => child.kill("SIGKILL"), GRACE_MS);
  await gone;
  clearTimeout(kill);
}

/** Stops every process that is still running. */
export async function stopAll(): Promise<void> {
  await Promise.all([...running].map(stopNode));
}
