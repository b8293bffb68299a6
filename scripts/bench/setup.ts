import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { addressOf, withDatabase } from "../environment/database";
import { findPulumi } from "../environment/pulumi";
import { Stack } from "../environment/stack";
import { sandboxCluster } from "../environment/target";
import { formatSeconds } from "../lib/progress";
import { projectRoot, stateDir } from "../lib/paths";
import { UserError } from "../lib/user-error";
import { Instance } from "../sandbox/instance";
import * as lifecycle from "../sandbox/lifecycle";
import { sandboxParts } from "../toolchain/assemble";

const NAME = "bench";

interface Row {
  readonly what: string;
  /** One measurement a run, in seconds. */
  readonly seconds: readonly number[];
}

/** Measures set-up and start, and returns a Markdown table. */
export async function measureSetup(options: {
  readonly cold: boolean;
  readonly runs: number;
}): Promise<string> {
  const rows: Row[] = options.cold ? await coldSetup() : [];
  const instance = new Instance(NAME);
  const remove = async () => {
    await lifecycle.reset(instance);
    fs.rmSync(stateDir("environments", `sandbox-${NAME}`), { recursive: true, force: true });
  };
  const parts = await sandboxParts();
  const pulumi = await findPulumi();
  const first: number[] = [];
  const up: number[] = [];
  const preview: number[] = [];
  const warm: number[] = [];
  try {
    for (let run = 0; run < options.runs; run++) {
      await remove();
      const target = await sandboxCluster(NAME);
      const stack = new Stack(pulumi, target);
      const release = await stack.prepare();
      first.push(await timed(() => firstConnection(stack)));
      preview.push(await timed(() => succeed(stack.run(["preview", "--expect-no-changes"]))));
      release();
      warm.push(await timed(() => npmStart(process.env).then(() => undefined)));
      await lifecycle.down(instance);
      up.push(await timed(() => lifecycle.up(instance, parts)));
    }
  } finally {
    await remove();
  }
  rows.push(
    { what: "cluster `up` to Ready, after `down`", seconds: up },
    { what: "`pulumi up` of a new stack to the first accepted connection", seconds: first },
    { what: "`pulumi preview` with no changes", seconds: preview },
    { what: "warm `npm start`", seconds: warm },
  );
  return table(rows);
}

/** `npm start` in a fresh clone, as on a machine that never saw the project, step by step. */
async function coldSetup(): Promise<Row[]> {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), "cold-"));
  const checkout = path.join(home, "checkout");
  const env = coldEnvironment(home);
  try {
    await run("git", ["clone", "--quiet", projectRoot, checkout], env);
    const started = Date.now();
    const output = await npmStart(env, checkout);
    const steps = [...output.matchAll(/^✓ (.+) \((?:(\d+) min )?([\d.]+) s\)$/gm)].map(
      ([, what, minutes, seconds]) => ({
        what: `cold: ${what}`,
        seconds: [Number(minutes ?? 0) * 60 + Number(seconds)],
      }),
    );
    return [...steps, { what: "cold `npm start`, all of it", seconds: [(Date.now() - started) / 1000] }];
  } finally {
    const down = ["scripts/run.mjs", "scripts/sandbox/cli.ts", "reset", "--yes", "--name", NAME];
    await run("node", down, env, checkout);
    await run("chmod", ["-R", "u+w", home], env); // Go's module cache is read-only
    fs.rmSync(home, { recursive: true, force: true });
  }
}

/** The environment without what npm, this process's own Node and any cache add to it. */
function coldEnvironment(home: string): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([key]) => !/^(npm_|XDG_|GO[A-Z]*CACHE$|GOPATH$)/i.test(key),
  );
  const searchPath = (process.env.PATH ?? "")
    .split(path.delimiter)
    .filter(
      (directory) => directory !== path.dirname(process.execPath) && !directory.includes("node_modules"),
    );
  return { ...Object.fromEntries(kept), HOME: home, PATH: searchPath.join(path.delimiter) };
}

async function firstConnection(stack: Stack): Promise<void> {
  await succeed(stack.run(["up", "--yes", "--suppress-outputs"]));
  await withDatabase(addressOf(stack.target, await stack.outputs()), (client) => client.query("SELECT 1"));
}

async function succeed(code: Promise<number>): Promise<void> {
  if ((await code) !== 0)
    throw new UserError("The command failed (see above), so there is nothing to measure.");
}

function npmStart(env: NodeJS.ProcessEnv, cwd = projectRoot): Promise<string> {
  return run("npm", ["start", "--silent", "--", "--sandbox", NAME], env, cwd);
}

function run(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  cwd = projectRoot,
): Promise<string> {
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    process.stderr.write(chunk);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) =>
      code === 0
        ? resolve(output)
        : reject(new UserError(`${program} ${args.join(" ")} failed (see above).`)),
    );
  });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = Date.now();
  await work();
  return (Date.now() - started) / 1000;
}

function table(rows: readonly Row[]): string {
  const lines = rows.map(({ what, seconds }) => {
    const sorted = [...seconds].sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)]!;
    return `| ${what} | ${formatSeconds(median)} | ${seconds.map((s) => s.toFixed(1)).join(", ")} |`;
  });
  const machine = `${os.cpus().length} cores, ${Math.round(os.totalmem() / 2 ** 30)} GiB`;
  return [
    `Machine: ${machine}, Node ${process.versions.node}.`,
    "",
    "| what | median | each run, s |",
    "|---|---|---|",
    ...lines,
  ].join("\n");
}
