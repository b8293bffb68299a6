import * as assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { installedPulumi } from "../../scripts/environment/pulumi";
import { takeOver } from "../../scripts/environment/stack";
import { canUseKind, environmentName } from "../../scripts/environment/target";
import { projectRoot } from "../../scripts/lib/paths";

describe("what the machine already has", () => {
  let bin: string;

  beforeEach(() => (bin = fs.mkdtempSync(path.join(os.tmpdir(), "bin-"))));
  afterEach(() => fs.rmSync(bin, { recursive: true }));

  /** A program of that name that prints a line and exits. */
  function program(name: string, line = "", code = 0): void {
    fs.writeFileSync(path.join(bin, name), `#!/bin/sh\necho '${line}'\nexit ${code}\n`, { mode: 0o755 });
  }

  it("is a Pulumi CLI of a fitting version with its language host", async () => {
    program("pulumi", "v3.270.0");
    program("pulumi-language-nodejs");
    const found = await installedPulumi(bin);
    assert.equal(found?.command, path.join(bin, "pulumi"));
    assert.deepEqual(found.env, {}, "it keeps its own home and plugins");
    assert.match(found.description, /3\.270\.0 of this machine/);
  });

  for (const version of ["v3.258.9", "v2.300.0", "v4.0.0", "nonsense"]) {
    it(`is not a Pulumi CLI of version ${version}`, async () => {
      program("pulumi", version);
      program("pulumi-language-nodejs");
      assert.equal(await installedPulumi(bin), undefined);
    });
  }

  it("is not a Pulumi CLI without the language host, one that fails, or none", async () => {
    assert.equal(await installedPulumi(bin), undefined);
    program("pulumi", "v3.270.0");
    assert.equal(await installedPulumi(bin), undefined);
    program("pulumi-language-nodejs");
    program("pulumi", "v3.270.0", 1);
    assert.equal(await installedPulumi(bin), undefined);
  });

  it("is kind only where a Docker engine answers", async () => {
    assert.equal(await canUseKind(bin), false);
    program("kind");
    assert.equal(await canUseKind(bin), false);
    program("docker", "Cannot connect to the Docker daemon", 1);
    assert.equal(await canUseKind(bin), false);
    program("docker");
    assert.equal(await canUseKind(bin), true);
  });
});

describe("a stack's configuration", () => {
  it("takes over what has changed in the checkout, and keeps what was set beside the state", () => {
    const first = takeOver({ salt: "s" }, {}, { size: "1Gi", cpu: "1", tags: ["a"] });
    assert.deepEqual(first, { salt: "s", size: "1Gi", cpu: "1", tags: ["a"] });
    const mine = { ...first, size: "2Gi", memory: "4Gi" };
    const seen = { size: "1Gi", cpu: "1", tags: ["a"] };
    assert.deepEqual(takeOver(mine, seen, seen), mine);
    assert.deepEqual(takeOver(mine, seen, { size: "1Gi", cpu: "2", tags: ["b"] }), {
      ...mine,
      cpu: "2",
      tags: ["b"],
    });
    assert.deepEqual(takeOver(mine, seen, { size: "3Gi" }), { salt: "s", size: "3Gi", memory: "4Gi" });
  });

  it("belongs to one context alone", () => {
    const names = ["a", "a/b", "a:b", "a_b", "A"].map(environmentName);
    assert.equal(new Set(names).size, names.length);
    assert.equal(environmentName("gke-prod.1"), "context-gke-prod.1");
  });
});

describe("npm start, bad input", function () {
  this.timeout(60_000);
  let home: string;

  beforeEach(() => (home = fs.mkdtempSync(path.join(os.tmpdir(), "home-"))));
  afterEach(() => fs.rmSync(home, { recursive: true }));

  function start(...args: string[]) {
    const kubeconfig = path.join(home, "kubeconfig");
    fs.writeFileSync(
      kubeconfig,
      JSON.stringify({
        ...{ apiVersion: "v1", kind: "Config", "current-context": "production" },
        clusters: [{ name: "down", cluster: { server: "https://127.0.0.1:1" } }],
        users: [{ name: "me", user: { token: "none" } }],
        contexts: ["production", "staging"].map((name) => ({
          name,
          context: { cluster: "down", user: "me" },
        })),
      }),
    );
    return spawnSync(process.execPath, ["--import", "tsx", "scripts/start.ts", ...args], {
      ...{ cwd: projectRoot, encoding: "utf8" },
      env: { ...process.env, KUBECONFIG: kubeconfig, XDG_STATE_HOME: path.join(home, "state") },
    });
  }

  it("names the known contexts when the given one is unknown", () => {
    const { status, stderr } = start("--context", "prod");
    assert.equal(status, 1);
    assert.equal(
      stderr,
      'error: Your kubeconfig has no context "prod"; it knows production, staging: correct --context or KUBECONFIG.\n',
    );
    assert.equal(fs.existsSync(path.join(home, "state")), false);
  });

  it("does not take an empty context for none", () => {
    assert.match(start("--context", "").stderr, /^error: Your kubeconfig has no context ""/);
  });

  it("says that a cluster cannot be reached, and makes nothing for it", () => {
    const { status, stderr } = start("--context", "staging");
    assert.equal(status, 1);
    assert.match(
      stderr,
      /^error: The cluster of context "staging" at https:\/\/127\.0\.0\.1:1 cannot be reached \(.+\): start it, or name another with --context\.\n$/,
    );
    assert.equal(fs.existsSync(path.join(home, "state")), false);
  });

  it("needs root before it builds anything", () => {
    const { status, stderr } = spawnSync(
      process.execPath,
      [
        "--import",
        "tsx",
        "--import",
        "data:text/javascript,process.getuid=()=>1000",
        "scripts/start.ts",
        "--sandbox",
        "x",
      ],
      {
        cwd: projectRoot,
        encoding: "utf8",
        env: { ...process.env, XDG_CACHE_HOME: home, XDG_STATE_HOME: home },
      },
    );
    assert.equal(status, 1);
    assert.match(stderr, /^error: The sandbox cluster needs Linux and root.*sudo.*--context NAME\.\n$/);
    assert.deepEqual(fs.readdirSync(home), []);
  });

  it("says in one sentence that a directory cannot be used", () => {
    const file = path.join(home, "file");
    fs.writeFileSync(file, "");
    const { status, stderr } = spawnSync(
      process.execPath,
      ["--import", "tsx", "scripts/start.ts", "--sandbox", "x"],
      {
        ...{ cwd: projectRoot, encoding: "utf8" },
        env: { ...process.env, XDG_STATE_HOME: path.join(file, "state") },
      },
    );
    assert.equal(status, 1);
    assert.match(
      stderr,
      /^error: \S+ cannot be used \(\w+: ENOTDIR\): .*XDG_STATE_HOME to other directories\.\n$/,
    );
  });

  it("does not take two clusters at once, or an option that it does not know", () => {
    assert.match(start("--context", "a", "--sandbox", "b").stderr, /cannot be used with option/);
    const { status, stderr } = start("--force");
    assert.equal(status, 1);
    assert.match(stderr, /unknown option '--force'/);
  });
});

describe("run.mjs", () => {
  let checkout: string;

  beforeEach(() => {
    checkout = fs.mkdtempSync(path.join(os.tmpdir(), "checkout-"));
    fs.mkdirSync(path.join(checkout, "scripts"));
    fs.mkdirSync(path.join(checkout, "bin"));
    fs.copyFileSync(path.join(projectRoot, "scripts/run.mjs"), path.join(checkout, "scripts/run.mjs"));
    fs.writeFileSync(path.join(checkout, "package-lock.json"), "{}");
  });
  afterEach(() => fs.rmSync(checkout, { recursive: true }));

  /** Runs it in a checkout that needs Node `required`, with an npm that does `script`. */
  function run(required: string, script: string) {
    fs.writeFileSync(
      path.join(checkout, "package.json"),
      JSON.stringify({ engines: { node: `>=${required}` } }),
    );
    fs.writeFileSync(path.join(checkout, "bin/npm"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return spawnSync(process.execPath, ["scripts/run.mjs", "scripts/none.ts"], {
      ...{ cwd: checkout, encoding: "utf8" },
      env: {
        PATH: `${path.join(checkout, "bin")}:${process.env.PATH}`,
        XDG_CACHE_HOME: path.join(checkout, "cache"),
      },
    });
  }

  it("fetches a newer Node where the machine's is too old, and says so when that fails", () => {
    const { status, stdout, stderr } = run("99.0.0", 'echo "npm error code EINTEGRITY" >&2; exit 1');
    assert.equal(status, 1);
    assert.match(stdout, /fetching Node 24/);
    assert.match(
      stderr,
      /EINTEGRITY\nerror: Node could not be fetched from the npm registry: .* run the same command again/,
    );
    assert.deepEqual(
      fs
        .readdirSync(path.join(checkout, "cache/durable-postgres"))
        .filter((name) => !name.includes("unfinished")),
      [],
      "nothing that a next run could take for a complete Node",
    );
  });

  it("does not go on with packages that are not installed", () => {
    const { status, stderr } = run("18.0.0", "exit 1");
    assert.equal(status, 1);
    assert.match(stderr, /error: The npm packages could not be installed: /);
    assert.equal(fs.existsSync(path.join(checkout, "node_modules/.installed")), false);
  });
});
