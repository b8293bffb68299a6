import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { isDeepStrictEqual } from "node:util";
import nanoSpawn from "nano-spawn";
import * as YAML from "yaml";
import { endsInOrder } from "../lib/command";
import { holdLock } from "../lib/lock";
import { projectRoot, stateDir } from "../lib/paths";
import { writeAtomically } from "../lib/write-atomically";
import { UserError } from "../lib/user-error";
import type { PulumiCli } from "./pulumi";
import type { Target } from "./target";

const PROJECT = "durable-postgres";

/** A `Pulumi.<stack>.yaml`. */
interface StackConfig {
  readonly config?: Readonly<Record<string, unknown>>;
}

/**
 * Stack `dev` of one target, with its state, passphrase and configuration kept
 * beside each other in {@link directory}, outside the checkout and the cache:
 * nothing of somebody's cluster lands in a committed file, and a new checkout
 * finds the same stack.
 */
export class Stack {
  readonly name = "dev";
  readonly directory: string;
  private readonly env: NodeJS.ProcessEnv;

  constructor(
    private readonly pulumi: PulumiCli,
    readonly target: Target,
  ) {
    this.directory = stateDir("environments", target.name);
    this.env = {
      ...process.env,
      ...pulumi.env,
      ...(target.kubeconfig ? { KUBECONFIG: target.kubeconfig } : {}),
      PULUMI_BACKEND_URL: `file://${this.path("backend")}`,
      // The engine would prefer this one, which is meant for other stacks, to our file.
      PULUMI_CONFIG_PASSPHRASE: undefined,
      PULUMI_CONFIG_PASSPHRASE_FILE: this.path("passphrase"),
      PULUMI_ERROR_OUTPUT_STRING: "true", // an Output in a string is a bug, not "Calling [toString]…"
    };
  }

  /** A path below the stack's directory. */
  path(...segments: string[]): string {
    return path.join(this.directory, ...segments);
  }

  /** The configuration that the stack is deployed with. */
  get configFile(): string {
    return this.path(`Pulumi.${this.name}.yaml`);
  }

  /**
   * Takes the stack's lock, creates the stack if it does not exist, and brings
   * its configuration up to date with the checkout's. The returned function
   * lets go of the lock, as does the end of the process.
   */
  async prepare(): Promise<() => void> {
    fs.mkdirSync(this.path("backend"), { recursive: true, mode: 0o700 });
    const release = holdLock(
      this.path("lock"),
      `Another command is working on the stack of ${this.target.description}: wait until it has ended.`,
    );
    if (!fs.existsSync(this.path("passphrase"))) {
      if (fs.existsSync(this.path("backend", ".pulumi"))) {
        throw new UserError(
          `${this.path("passphrase")} is missing, and without it the state beside it cannot be read: put it back, or move ${this.directory} away to begin with a new state (claims and Secret are then imported).`,
        );
      }
      writeAtomically(this.path("passphrase"), randomBytes(32).toString("base64url"));
    }
    fs.copyFileSync(path.join(projectRoot, "Pulumi.yaml"), this.path("Pulumi.yaml"));
    if (!(await this.exists())) {
      // Beside the state, because this writes the encryption salt into the configuration there.
      await this.quietly([
        "stack",
        "init",
        this.name,
        "--secrets-provider",
        "passphrase",
        "-C",
        this.directory,
      ]);
    }
    this.writeConfig();
    await this.releaseStaleLock();
    return release;
  }

  /** Runs a Pulumi command on the stack with the terminal as it is, and resolves with its exit code. */
  run(args: readonly string[]): Promise<number> {
    const child = spawn(this.pulumi.command, this.withStack(args), {
      cwd: projectRoot,
      env: this.env,
      stdio: "inherit",
    });
    endsInOrder(child);
    return new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => resolve(code ?? 1));
    });
  }

  /** Runs a Pulumi command on the stack and resolves with what it prints on stdout. */
  async capture(args: readonly string[]): Promise<string> {
    return this.quietly(this.withStack(args));
  }

  /** The stack's outputs. */
  async outputs(): Promise<Record<string, unknown>> {
    const json = await this.quietly([
      "stack",
      "output",
      "--json",
      "--stack",
      this.name,
      "-C",
      this.directory,
    ]);
    return JSON.parse(json) as Record<string, unknown>;
  }

  /** `--stack`, and `--config-file` for the commands that read a configuration. */
  private withStack(args: readonly string[]): string[] {
    const [command] = args;
    const configured = [
      "up",
      "update",
      "preview",
      "destroy",
      "refresh",
      "config",
      "watch",
      "import",
    ].includes(command ?? "");
    const stacked = configured || ["stack", "state", "cancel"].includes(command ?? "");
    return [
      ...args,
      ...(stacked ? ["--stack", this.name] : []),
      ...(configured ? ["--config-file", this.configFile] : []),
    ];
  }

  private async exists(): Promise<boolean> {
    const stacks = JSON.parse(await this.quietly(["stack", "ls", "--json", "-C", this.directory])) as {
      name: string;
    }[];
    return stacks.some(({ name }) => name === this.name);
  }

  /**
   * Takes over what has changed in the checkout's configuration, or in what the
   * target needs, since the last time; what was set here since then stays.
   */
  private writeConfig(): void {
    const ours = readYaml<StackConfig>(this.configFile);
    const seen = readYaml<StackConfig>(this.path("last-seen.yaml"));
    const checkout = readYaml<StackConfig>(path.join(projectRoot, `Pulumi.${this.name}.yaml`));
    const target = {
      kubeContext: this.target.context,
      clusterIdentifier: this.target.name,
      ...this.target.settings,
    };
    const given: StackConfig = {
      ...checkout,
      config: {
        ...checkout.config,
        ...Object.fromEntries(Object.entries(target).map(([key, value]) => [`${PROJECT}:${key}`, value])),
      },
    };
    const config = takeOver(ours.config ?? {}, seen.config ?? {}, given.config ?? {});
    writeAtomically(this.configFile, YAML.stringify({ ...ours, config }));
    writeAtomically(this.path("last-seen.yaml"), YAML.stringify(given));
  }

  /**
   * Pulumi's own lock survives a killed engine. Every command here holds ours,
   * so one that is found now belongs to nobody, unless its process is alive.
   */
  private async releaseStaleLock(): Promise<void> {
    const locks = this.path("backend", ".pulumi", "locks", "organization", PROJECT, this.name);
    const files = fs.existsSync(locks) ? fs.readdirSync(locks).filter((file) => file.endsWith(".json")) : [];
    if (files.length === 0) return;
    for (const file of files) {
      const pid = engineOf(path.join(locks, file));
      if (pid !== undefined) {
        throw new UserError(
          `Process ${pid} holds Pulumi's lock on the stack of ${this.target.description}: wait until it has ended.`,
        );
      }
    }
    await this.quietly(["cancel", "--yes", "--stack", this.name, "-C", this.directory]);
  }

  private async quietly(args: readonly string[]): Promise<string> {
    const { stdout } = await nanoSpawn(this.pulumi.command, [...args, "--non-interactive"], {
      cwd: projectRoot,
      env: this.env,
    });
    return stdout;
  }
}

/** The settings of `ours`, with those of `given` that differ from when they were last `seen`. */
export function takeOver(
  ours: Readonly<Record<string, unknown>>,
  seen: Readonly<Record<string, unknown>>,
  given: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const result = { ...ours };
  for (const key of new Set([...Object.keys(seen), ...Object.keys(given)])) {
    if (isDeepStrictEqual(seen[key], given[key])) continue;
    if (given[key] === undefined) delete result[key];
    else result[key] = given[key];
  }
  return result;
}

/** The engine that holds a lock file of Pulumi's, if it is still running. */
function engineOf(lockFile: string): number | undefined {
  try {
    const { pid } = JSON.parse(fs.readFileSync(lockFile, "utf8")) as { pid: number };
    return path.basename(fs.readlinkSync(`/proc/${pid}/exe`)) === "pulumi" ? pid : undefined;
  } catch {
    return undefined; // it has ended, or was killed while it wrote the file
  }
}

/** Removes the state of an environment whose cluster is removed: it would take objects for existing. */
export function forgetEnvironment(targetName: string): void {
  const directory = stateDir("environments", targetName);
  if (!fs.existsSync(directory)) return;
  const release = holdLock(
    path.join(directory, "lock"),
    `Another command is working on the stack of ${targetName}: wait until it has ended.`,
  );
  fs.rmSync(directory, { recursive: true });
  release();
}

function readYaml<T>(file: string): T {
  return (fs.existsSync(file) ? (YAML.parse(fs.readFileSync(file, "utf8")) as T | null) : null) ?? ({} as T);
}
