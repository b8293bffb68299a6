import * as assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { installLanguageHost, installRandomProvider } from "../../scripts/standins/install";
import { isAlive, temporaryFolder, until, writeProject } from "./helpers";

/** The stand-ins under the real engine, with no cluster and no network. */
describe("stand-ins under the Pulumi engine", function () {
  this.timeout(120_000);
  const { folder, remove } = temporaryFolder();
  const cli = path.join(folder, "bin", "pulumi");
  const home = path.join(folder, "home");
  const directory = path.join(folder, "project");
  const env = {
    ...process.env,
    PULUMI_HOME: home,
    PULUMI_BACKEND_URL: `file://${path.join(folder, "state")}`,
    PULUMI_CONFIG_PASSPHRASE: "only for this test",
    PULUMI_SKIP_UPDATE_CHECK: "true",
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
  };

  /** Runs the CLI; `status` is what it must exit with. */
  function pulumi(args: string[], status: "succeeds" | "fails" = "succeeds"): string {
    const { stdout, stderr, ...ended } = spawnSync(cli, [...args, "--non-interactive", "--color=never"], {
      cwd: directory,
      env,
      encoding: "utf8",
    });
    const output = stdout + stderr;
    assert.equal(ended.status === 0 ? "succeeds" : "fails", status, `pulumi ${args.join(" ")}:\n${output}`);
    return output;
  }

  const setLength = (length: number) => pulumi(["config", "set", "length", String(length)]);
  const password = () => pulumi(["stack", "output", "password", "--show-secrets"]).trim();

  before(() => {
    const given = process.env.PULUMI_BIN;
    assert.ok(given, "PULUMI_BIN must name the Pulumi CLI.");
    fs.mkdirSync(path.join(folder, "state"));
    fs.mkdirSync(path.dirname(cli));
    fs.copyFileSync(given, cli); // its own folder, for the language host beside it
    installLanguageHost(path.join(folder, "bin"), process.execPath);
    installRandomProvider(path.join(home, "plugins"), process.execPath);
    writeProject(directory, {
      "Pulumi.yaml":
        'name: shop\nruntime:\n  name: nodejs\n  options: { typescript: false, nodeargs: "--import tsx" }\n',
      "package.json": '{ "main": "index.ts" }',
      "index.ts": `
        import * as pulumi from "@pulumi/pulumi";
        import { RandomPassword } from "@pulumi/random";
        const config = new pulumi.Config();
        if (config.getBoolean("hang")) {
          require("node:fs").writeFileSync("pid", String(process.pid));
          setInterval(() => {}, 1000);
        }
        if (config.getBoolean("fail")) throw new Error("the shop is closed");
        console.log("the program runs");
        const admin = new RandomPassword("admin", {
          length: config.requireNumber("length"),
          special: false,
          keepers: { token: config.requireSecret("token") },
        });
        export const password = admin.result;
        export const hash = admin.bcryptHash;`,
    });
    writeProject(path.join(folder, "policies"), {
      "PulumiPolicy.yaml": "runtime: nodejs\n",
      "package.json": '{ "name": "policies", "version": "0.0.1", "main": "index.ts" }',
      "tsconfig.json": '{ "compilerOptions": { "noCheck": true, "skipLibCheck": true, "types": [] } }',
      "index.ts": `
        import * as pulumi from "@pulumi/pulumi";
        import { PolicyPack } from "@pulumi/policy";
        new PolicyPack("policies", {
          enforcementLevel: "mandatory",
          policies: [{
            name: "long-enough",
            description: "Passwords are long enough.",
            validateResource: (args, report) => {
              const least = new pulumi.Config("shop").getNumber("least") ?? 1;
              if (args.props.length < least) {
                report(args.props.length + " < " + least + " in " + pulumi.getStack()
                  + (pulumi.runtime.isDryRun() ? ", a preview" : ", for real"));
              }
            },
          }],
        });`,
    });
    pulumi(["stack", "init", "dev"]);
    setLength(20);
    pulumi(["config", "set", "--secret", "token", "a-secret-keeper"]);
  });
  after(remove);

  it("up creates a password, and a second preview has no changes", () => {
    const output = pulumi(["up", "--yes", "--skip-preview"]);
    assert.match(output, /the program runs/);
    assert.doesNotMatch(output, /warning/);
    assert.match(password(), /^[A-Za-z0-9]{20}$/);
    pulumi(["preview", "--expect-no-changes", "--diff"]);
    pulumi(["refresh", "--yes", "--expect-no-changes"]);
  });

  it("the exported state and the files on disk have no secret in clear", () => {
    const secrets = [password(), "a-secret-keeper"];
    const shows = (text: string) => secrets.some((secret) => text.includes(secret));
    assert.ok(shows(pulumi(["stack", "export", "--show-secrets"])));
    assert.ok(!shows(pulumi(["stack", "export"])));
    const files = fs.readdirSync(path.join(folder, "state"), { recursive: true, encoding: "utf8" });
    const state = files
      .map((name) => path.join(folder, "state", name))
      .filter((name) => fs.statSync(name).isFile());
    assert.ok(state.length > 0);
    for (const file of state) assert.ok(!shows(fs.readFileSync(file, "utf8")), file);
  });

  it("a changed length replaces the password", () => {
    const old = password();
    setLength(24);
    assert.match(pulumi(["preview", "--diff"]), /replace/);
    pulumi(["up", "--yes", "--skip-preview"]);
    assert.match(password(), /^[A-Za-z0-9]{24}$/);
    assert.notEqual(password(), old);
  });

  it("wrong inputs and a failing program are reported", () => {
    setLength(0);
    assert.match(pulumi(["preview"], "fails"), /length must be a whole number of at least 1, not 0/);
    setLength(24);
    pulumi(["config", "set", "fail", "true"]);
    assert.match(pulumi(["up", "--yes", "--skip-preview"], "fails"), /the shop is closed/);
    pulumi(["config", "rm", "fail"]);
    pulumi(["preview", "--expect-no-changes"]); // a program that failed has deleted nothing
  });

  it("a policy pack sees stack, config and preview, and a mandatory violation blocks", () => {
    const pack = ["--policy-pack", path.join(folder, "policies")];
    pulumi(["preview", ...pack]);
    const old = password();
    pulumi(["config", "set", "least", "99"]);
    assert.match(pulumi(["preview", ...pack], "fails"), /24 < 99 in dev, a preview/);
    assert.match(pulumi(["up", "--yes", "--skip-preview", ...pack], "fails"), /24 < 99 in dev, for real/);
    assert.equal(password(), old);
    pulumi(["config", "rm", "least"]);
  });

  for (const signal of ["SIGINT", "SIGKILL"] as const) {
    it(`${signal} to the engine during up leaves no process behind`, async () => {
      pulumi(["config", "set", "hang", "true"]);
      const pidFile = path.join(directory, "pid");
      fs.rmSync(pidFile, { force: true });
      const args = ["up", "--yes", "--skip-preview", "--non-interactive"];
      const up = spawn(cli, args, { cwd: directory, env, stdio: "ignore" });
      await until(
        () => fs.existsSync(pidFile) && fs.readFileSync(pidFile, "utf8") !== "",
        "the program starts",
      );
      const processes = descendants(up.pid as number);
      assert.ok(processes.includes(Number(fs.readFileSync(pidFile, "utf8"))));
      up.kill(signal);
      await until(() => up.exitCode !== null || up.signalCode !== null, "up ends", 30);
      await until(() => !processes.some(isAlive), `the processes ${processes.join()} end`);
      pulumi(["config", "rm", "hang"]);
      if (signal === "SIGKILL") pulumi(["cancel", "--yes"]); // its lock is still there
    });
  }

  it("destroy removes everything", () => {
    pulumi(["destroy", "--yes", "--skip-preview"]);
    assert.ok(!pulumi(["stack", "export"]).includes("RandomPassword"));
  });
});

/** All processes below `pid`, wherever their process group is. */
function descendants(pid: number): number[] {
  const parents = fs
    .readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = fs.readFileSync(`/proc/${name}/stat`, "utf8");
        return [{ child: Number(name), parent: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) }];
      } catch {
        return []; // ended meanwhile
      }
    });
  const below = (root: number): number[] =>
    parents.filter(({ parent }) => parent === root).flatMap(({ child }) => [child, ...below(child)]);
  return below(pid);
}
