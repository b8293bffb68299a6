import * as assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import type { Client } from "pg";
import { withDatabase } from "../../scripts/environment/database";
import { findPulumi } from "../../scripts/environment/pulumi";
import { Stack } from "../../scripts/environment/stack";
import { sandboxCluster } from "../../scripts/environment/target";
import { postgresImage } from "../../scripts/images/build";
import { projectRoot } from "../../scripts/lib/paths";
import { eventually, TestCluster } from "./cluster";
import { npmStart } from "./npm-start";

const namespace = "record-platform";
const claim = "pgdata-big";
const secret = "postgres-superuser";

/** What has to be the same whatever happens to server, pod, cluster and stack. */
interface Identity {
  readonly rows: readonly number[];
  readonly systemIdentifier: string;
  readonly claimUid: string;
  readonly volume: string;
}

describe("database through the real engine", function () {
  this.timeout(300_000);
  const cluster = new TestCluster("database");
  const onSandbox = ["--sandbox", cluster.instance.name];
  let stack: Stack;
  let release: () => void;
  let written: Identity;
  let password: string;

  before(() => cluster.remove());
  after(() => cluster.remove());

  describe("npm start", () => {
    let committed: string;

    before(() => {
      committed = gitStatus();
    });

    it("can be interrupted, killed, and run again", async () => {
      const interrupted = await npmStart(onSandbox, [/Updating \(dev\)/, "SIGINT"]);
      assert.notEqual(interrupted.code, 0, interrupted.output);
      assert.match(interrupted.output, /Run the same command again/);
      const killed = await npmStart(onSandbox, [/postgres-initialize creat/, "SIGKILL"]);
      assert.notEqual(killed.code, 0);
      const completed = await npmStart(onSandbox);
      assert.equal(completed.code, 0, completed.output);
      assert.match(completed.output, /Row 1 was written and read/);
      assert.match(completed.output, /port-forward service\/postgres/);
      assert.match(completed.output, /Pulumi state +\S+sandbox-test-database/);
      assert.match(
        completed.output,
        /stand-ins for the Node language host and the random provider|of this machine/,
      );
    });

    it("changes nothing in the checkout", () => assert.equal(gitStatus(), committed));

    it("run again, changes nothing in the cluster", async () => {
      const again = await npmStart(onSandbox);
      assert.equal(again.code, 0, again.output);
      assert.match(again.output, /\d+ unchanged/);
      assert.doesNotMatch(again.output, /created|updated|deleted|replaced/);
      assert.match(again.output, /Row 2 was written and read/);
    });
  });

  describe("data, identity and password survive", () => {
    before(async () => {
      stack = new Stack(await findPulumi(), await sandboxCluster(cluster.instance.name));
      release = await stack.prepare();
      await database((client) =>
        client.query(
          "CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept SELECT generate_series(1, 1000)",
        ),
      );
      written = await identity();
      password = await readPassword();
      assert.equal(written.rows.length, 1000);
    });

    afterEach(async () => {
      assert.deepEqual(await identity(), written);
      assert.equal(await readPassword(), password);
    });

    it("has no password in the state or in the output", async () => {
      const state = await stack.capture(["stack", "export"]);
      assert.ok(state.includes("postgres-superuser"));
      assert.ok(!state.includes(password));
      assert.ok(!state.includes(Buffer.from(password).toString("base64")));
      assert.ok(!JSON.stringify(await stack.outputs()).includes(password));
      const shown = await stack.capture(["preview", "--diff", "--show-config"]);
      assert.ok(!shown.includes(password));
    });

    it("a wrong password, which does not open the database", async () => {
      await assert.rejects(
        database((client) => client.query("SELECT 1"), "wrong"),
        { code: "28P01" },
      );
    });

    it("pulumi preview --expect-no-changes right after up", async () => {
      assert.equal(await stack.run(["preview", "--expect-no-changes"]), 0);
    });

    it("SIGKILL of the server from outside its container", async () => {
      const { name, restarts } = await serverPod();
      await cluster.killContainer(namespace, name, "db");
      await eventually("the container has been restarted", async () => {
        const pod = await serverPod();
        return pod.name === name && pod.restarts === restarts + 1 && pod.ready;
      });
    });

    it("deletion of the pod", async () => {
      const { name } = await serverPod();
      await cluster.core.deleteNamespacedPod({ namespace, name });
      await newPodAfter(name);
    });

    it("rollout restart", async () => {
      const { name } = await serverPod();
      const result = cluster.kubectl("rollout", "restart", "deployment/postgres", "-n", namespace);
      assert.equal(result.status, 0, result.stderr);
      await newPodAfter(name);
    });

    it("down and up of the cluster, with a clean shutdown of the server", async () => {
      await cluster.down();
      await cluster.up();
      const log = () => {
        const { name } = podNow();
        return cluster.kubectl("logs", "-n", namespace, name, "-c", "db").stdout;
      };
      await eventually("the server says how it was stopped", () =>
        Promise.resolve(/database system (was shut down|is ready)/.test(log())),
      );
      assert.match(log(), /database system was shut down at/);
    });

    it("pulumi destroy: refused before the first deletion", async () => {
      const before = await objects();
      assert.notEqual(await stack.run(["destroy", "--yes"]), 0);
      assert.deepEqual(await objects(), before);
      assert.equal(await stack.run(["preview", "--expect-no-changes"]), 0);
    });

    it("pulumi destroy --run-program of protected resources: refused, and the next up repairs", async () => {
      assert.notEqual(await stack.run(["destroy", "--yes", "--run-program"]), 0);
      await up();
    });

    it("pulumi destroy --exclude-protected, then up", async () => {
      assert.equal(await stack.run(["destroy", "--yes", "--exclude-protected", "--run-program"]), 0);
      assert.deepEqual((await cluster.apps.listNamespacedDeployment({ namespace })).items, []);
      await up();
    });

    it("pulumi state unprotect --all and destroy: refused, because the program protects again", async () => {
      assert.equal(await stack.run(["state", "unprotect", "--all", "--yes"]), 0);
      assert.notEqual(await stack.run(["destroy", "--yes"]), 0);
      assert.notEqual(await stack.run(["destroy", "--yes", "--run-program"]), 0);
      await up();
    });

    it("everything unprotected by configuration and destroyed, then up", async () => {
      assert.equal(await stack.run(["config", "set", "protect", "false"]), 0);
      assert.equal(await stack.run(["up", "--yes", "--suppress-outputs"]), 0);
      assert.equal(await stack.run(["destroy", "--yes", "--run-program"]), 0);
      const state = JSON.parse(await stack.capture(["stack", "export"])) as {
        deployment: { resources?: unknown[] };
      };
      assert.deepEqual(state.deployment.resources ?? [], []);
      assert.deepEqual((await cluster.apps.listNamespacedDeployment({ namespace })).items, []);
      assert.equal(await stack.run(["config", "rm", "protect"]), 0);
      await up();
    });

    it("a lost state, then up", async () => {
      fs.rmSync(stack.path("backend"), { recursive: true });
      fs.mkdirSync(stack.path("backend"));
      await stack.capture(["stack", "init", "--secrets-provider", "passphrase", "-C", stack.directory]);
      await up();
    });

    it("a changed port, CA and kubeconfig, which replace nothing", async () => {
      assert.equal(await stack.run(["config", "set", "kubeconfig", cluster.instance.kubeconfig]), 0);
      await upWithoutReplacement();
      const { port } = cluster.instance;
      await cluster.down();
      fs.rmSync(cluster.instance.path("sandbox", "pki"), { recursive: true }); // the next up makes a new CA
      cluster.instance.port = port! - 1;
      await cluster.up();
      assert.notEqual(cluster.instance.port, port);
      await upWithoutReplacement();
      assert.equal(await stack.run(["config", "rm", "kubeconfig"]), 0);
      await upWithoutReplacement();
    });

    it("plain pulumi up -s dev in a checkout, with a state of its own", async () => {
      const directory = fs.mkdtempSync(path.join(os.tmpdir(), "checkout-"));
      for (const part of [
        "index.ts",
        "package.json",
        "tsconfig.json",
        "components",
        "scripts",
        "Pulumi.yaml",
        "Pulumi.dev.yaml",
      ]) {
        fs.cpSync(path.join(projectRoot, part), path.join(directory, part), { recursive: true });
      }
      fs.symlinkSync(path.join(projectRoot, "node_modules"), path.join(directory, "node_modules"));
      const { command, env } = await findPulumi();
      const pulumi = (...args: string[]) => {
        const result = spawnSync(command, [...args, "--non-interactive"], {
          ...{ cwd: directory, encoding: "utf8" },
          env: {
            ...{ ...process.env, ...env, KUBECONFIG: cluster.instance.kubeconfig },
            ...{ PULUMI_BACKEND_URL: `file://${directory}`, PULUMI_CONFIG_PASSPHRASE: "a passphrase" },
          },
        });
        assert.equal(result.status, 0, `pulumi ${args.join(" ")}: ${result.stdout}${result.stderr}`);
        return result.stdout;
      };
      try {
        pulumi("stack", "init", "dev");
        pulumi("config", "set", "kubeContext", cluster.instance.context);
        pulumi("config", "set", "clusterIdentifier", "mine");
        pulumi("config", "set", "image", postgresImage(18).reference);
        assert.match(pulumi("up", "-s", "dev", "--yes"), /imported/);
      } finally {
        fs.rmSync(directory, { recursive: true });
      }
    });

    it("npm start -- --context NAME, with the committed configuration", async () => {
      // The sandbox cannot pull the official image; ours of that version takes its name.
      const [ours, official] = [postgresImage(18).reference, "docker.io/library/postgres:18"];
      const tagged = cluster.node.run([
        "ctr",
        "--namespace",
        "k8s.io",
        "images",
        "tag",
        "--force",
        ours,
        official,
      ]);
      assert.equal(tagged.status, 0, tagged.stderr);
      const started = await npmStart(["--context", cluster.instance.context], undefined, {
        KUBECONFIG: cluster.instance.kubeconfig,
      });
      assert.equal(started.code, 0, started.output);
      assert.match(started.output, /Row 3 was written and read/);
      await up();
    });

    for (const [what, key, value] of [
      ["shrunk", "dataSize", "512Mi"],
      ["moved to another class", "storageClass", "other"],
    ] as const) {
      it(`a claim that is to be ${what}: refused, and nothing is touched by the attempt`, async () => {
        const config = fs.readFileSync(stack.configFile);
        const before = await objects();
        assert.equal(await stack.run(["config", "set", key, value]), 0);
        assert.notEqual(await stack.run(["up", "--yes"]), 0);
        assert.deepEqual(await objects(), before);
        fs.writeFileSync(stack.configFile, config);
        await up();
      });
    }
  });

  describe("reset of the sandbox", () => {
    it("is followed by an npm start that begins anew", async () => {
      release();
      const reset = [
        "scripts/run.mjs",
        "scripts/sandbox/cli.ts",
        "reset",
        "--yes",
        "--name",
        cluster.instance.name,
      ];
      const { status, stderr } = spawnSync("node", reset, { cwd: projectRoot, encoding: "utf8" });
      assert.equal(status, 0, stderr);
      const anew = await npmStart(onSandbox);
      assert.equal(anew.code, 0, anew.output);
      assert.match(anew.output, /Row 1 was written and read/);
    });
  });

  async function up(): Promise<void> {
    assert.equal(await stack.run(["up", "--yes", "--suppress-outputs"]), 0);
    assert.equal(await stack.run(["preview", "--expect-no-changes"]), 0);
  }

  async function upWithoutReplacement(): Promise<void> {
    const { steps } = JSON.parse(await stack.capture(["preview", "--json"])) as {
      steps: { op: string; urn: string }[];
    };
    const changes = steps
      .filter(({ op }) => op !== "same")
      .map(({ op, urn }) => `${op} ${urn.split("::").at(-1)}`);
    assert.deepEqual(
      changes.filter((change) => change !== "update kubernetes"),
      [],
    );
    await up();
  }

  function database<T>(use: (client: Client) => Promise<T>, password?: string): Promise<T> {
    const { kubeconfig, context } = cluster.instance;
    return withDatabase({ kubeconfig, context, namespace, superuserSecret: secret, password }, use);
  }

  async function identity(): Promise<Identity> {
    const { metadata, spec } = await cluster.core.readNamespacedPersistentVolumeClaim({
      namespace,
      name: claim,
    });
    return database(async (client) => {
      const rows = await client.query<{ id: number }>("SELECT id FROM kept ORDER BY id");
      const control = await client.query<{ id: string }>(
        "SELECT system_identifier AS id FROM pg_control_system()",
      );
      return {
        rows: rows.rows.map(({ id }) => id),
        systemIdentifier: control.rows[0]!.id,
        claimUid: metadata!.uid!,
        volume: spec!.volumeName!,
      };
    });
  }

  async function readPassword(): Promise<string> {
    const { data } = await cluster.core.readNamespacedSecret({ namespace, name: secret });
    return Buffer.from(data!.password!, "base64").toString();
  }

  async function serverPod() {
    const { items } = await cluster.core.listNamespacedPod({ namespace, labelSelector: "app=postgres" });
    const pod = items.find(({ metadata }) => !metadata?.deletionTimestamp);
    const status = pod?.status?.containerStatuses?.find(({ name }) => name === "db");
    if (!pod || !status) throw new Error("there is no server pod");
    return { name: pod.metadata!.name!, restarts: status.restartCount, ready: status.ready };
  }

  function podNow(): { name: string } {
    const name = cluster
      .kubectl(
        "get",
        "pod",
        "-n",
        namespace,
        "-l",
        "app=postgres",
        "-o",
        "jsonpath={.items[0].metadata.name}",
      )
      .stdout.trim();
    return { name };
  }

  async function newPodAfter(old: string): Promise<void> {
    await eventually("a new pod is ready", async () => {
      const pod = await serverPod();
      return pod.name !== old && pod.ready;
    });
  }

  /** Identity and specification of everything in the namespace that the program made. */
  async function objects(): Promise<string[]> {
    const lists = await Promise.all([
      cluster.apps.listNamespacedDeployment({ namespace }),
      cluster.core.listNamespacedService({ namespace }),
      cluster.core.listNamespacedSecret({ namespace }),
      cluster.core.listNamespacedConfigMap({ namespace }),
      cluster.core.listNamespacedPersistentVolumeClaim({ namespace }),
      cluster.batch.listNamespacedJob({ namespace }),
    ]);
    const specOf = (object: object) =>
      "spec" in object ? object.spec : "data" in object ? object.data : undefined;
    return lists
      .flatMap(({ items }) => items.map((object) => JSON.stringify([object.metadata!.uid, specOf(object)])))
      .sort();
  }
});

function gitStatus(): string {
  return spawnSync("git", ["status", "--porcelain"], { cwd: projectRoot, encoding: "utf8" }).stdout;
}
