import * as assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as net from "node:net";
import * as path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { projectRoot } from "../../scripts/lib/paths";
import { components } from "../../scripts/sandbox/components";
import * as lifecycle from "../../scripts/sandbox/lifecycle";
import { sandboxParts } from "../../scripts/toolchain/assemble";
import { nodeRootfs } from "../../scripts/toolchain/node-system";
import { eventually, TestCluster } from "./cluster";

const image = "localhost/durable-postgres/postgres:18";

describe("sandbox cluster", function () {
  this.timeout(180_000);
  const cluster = new TestCluster("sandbox");
  const { instance } = cluster;
  let untouched: ReturnType<typeof tracesOnHost>;

  before(async () => {
    await cluster.remove();
    await sandboxParts();
    // Values that the kubelet would not choose, to see that it does not reach the machine's.
    fs.writeFileSync("/proc/sys/kernel/panic", "0");
    untouched = tracesOnHost(instance.mark);
    await cluster.up();
  });
  after(() => cluster.remove());

  const wanted = () => components(instance.port!, instance.cgroup);

  it("runs every component, and a second up starts nothing anew", async () => {
    const status = await lifecycle.status(instance);
    assert.deepEqual(
      { ...status, port: undefined },
      { running: true, port: undefined, missing: [], apiServer: true },
    );
    const processes = pidsOf(cluster);
    await cluster.up();
    assert.deepEqual(pidsOf(cluster), processes);
  });

  it("has no way out", () => {
    const route = cluster.node.run(["ip", "route", "get", "192.0.2.1"]).stdout;
    assert.match(route, /dev node0/); // a bridge without ports
    const ports = cluster.node.run(["ls", "/sys/class/net/node0/brif"]).stdout;
    assert.equal(ports, "");
    const links = cluster.node.run(["ip", "-o", "link"]).stdout.trim().split("\n");
    const names = links.map((line) => /^\d+: ([^:@]+)/.exec(line)![1]!);
    assert.deepEqual(
      names.filter((name) => !/^(lo|node0|veth\w+)$/.test(name) && !isKernelDefault(name)),
      [],
    );
  });

  it("leaves the host's network as it was", () => {
    const { interfaces, routes, namespaces, rules } = tracesOnHost(instance.mark);
    assert.deepEqual(
      { interfaces, routes, namespaces, rules },
      {
        interfaces: untouched.interfaces,
        routes: untouched.routes,
        namespaces: untouched.namespaces,
        rules: untouched.rules,
      },
    );
  });

  it("enforces RBAC and Pod Security", async () => {
    const as = (user: string, ...args: string[]) => cluster.kubectl("--as", user, ...args);
    assert.match(as("nobody", "get", "secrets", "-A").stderr, /forbidden/);
    const anonymous = cluster.node.run([
      ...["/opt/kubernetes/kubectl", "--kubeconfig=/dev/null", "--server=https://172.31.0.1:6443"],
      ...["--insecure-skip-tls-verify", "get", "pods", "-A"],
    ]);
    assert.notEqual(anonymous.status, 0);
    await cluster.apply({
      ...{ apiVersion: "v1", kind: "Namespace" },
      metadata: { name: "strict", labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    await eventually("the namespace's service account", () =>
      cluster.core.readNamespacedServiceAccount({ namespace: "strict", name: "default" }),
    );
    const run = cluster.kubectl("run", "root", "-n", "strict", `--image=${image}`);
    assert.match(run.stderr, /violates PodSecurity "restricted/);
  });

  it("resolves Services by name", async () => {
    await cluster.apply(claim("dns", "16Mi"), pod("dns", "dns"));
    await running("dns");
    const answer = cluster.exec("default", "dns", "getent", "hosts", "kubernetes.default.svc.cluster.local");
    assert.match(answer, /^10\.96\.0\.1\s/);
  });

  it("gives a volume that is full at its size, and that grows while no pod uses it", async () => {
    await cluster.apply(claim("small", "32Mi"), pod("writer", "small"));
    await running("writer");
    const fill = cluster.kubectl(
      "exec",
      "writer",
      "--",
      "dd",
      "if=/dev/zero",
      "of=/data/fill",
      "bs=1M",
      "count=48",
    );
    assert.match(fill.stderr, /No space left on device/);

    cluster.kubectl("patch", "pvc", "small", "-p", '{"spec":{"resources":{"requests":{"storage":"96Mi"}}}}');
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    assert.equal(
      (await readClaim("small")).status?.capacity?.storage,
      "32Mi",
      "it must not grow while it is used",
    );

    await cluster.core.deleteNamespacedPod({ namespace: "default", name: "writer" });
    await eventually(
      "the claim has grown",
      async () => (await readClaim("small")).status?.capacity?.storage === "96Mi",
    );
    await cluster.apply(pod("reader", "small"));
    await running("reader");
    cluster.exec("default", "reader", "dd", "if=/dev/zero", "of=/data/more", "bs=1M", "count=48");
    assert.match(cluster.exec("default", "reader", "ls", "/data"), /fill\n(lost\+found\n)?more/);
  });

  it("is mended by up after SIGKILL of each of its processes", async () => {
    for (const pid of Object.values(pidsOf(cluster))) process.kill(pid, "SIGKILL");
    await eventually("all are gone", async () => {
      const { missing } = await lifecycle.status(instance);
      return missing.length === wanted().length;
    });
    await cluster.up();
    assert.deepEqual((await lifecycle.status(instance)).missing, []);
    await stillHasItsData("reader");
  });

  it("keeps its volumes over SIGKILL of its init, which takes all processes with it", async () => {
    process.kill(cluster.node.pid, "SIGKILL");
    await eventually("nothing is left", () =>
      Promise.resolve(tracesOnHost(instance.mark).programs.length === 0),
    );
    await cluster.up();
    await stillHasItsData("reader");
  });

  for (const [when, mark] of [
    ["while its node boots", /^unshare/],
    ["while its components start", /^tini/],
  ] as const) {
    it(`goes on after an up that was killed ${when}`, async () => {
      await cluster.down();
      const up = spawn("node", ["scripts/run.mjs", "scripts/sandbox/cli.ts", "up", "--name", instance.name], {
        ...{ cwd: projectRoot, stdio: "ignore", detached: true },
      });
      while (!tracesOnHost(instance.mark).programs.some((program) => mark.test(program))) await delay(2);
      process.kill(-up.pid!, "SIGKILL");
      await cluster.up();
      await stillHasItsData("reader");
      assert.equal(tracesOnHost(instance.mark).programs.filter((program) => /^tini/.test(program)).length, 1);
    });
  }

  it("leaves nothing behind when up is interrupted, and goes on from there", async () => {
    await cluster.down();
    const up = spawn("node", ["scripts/run.mjs", "scripts/sandbox/cli.ts", "up", "--name", instance.name], {
      ...{ cwd: projectRoot, stdio: "ignore", detached: true },
    });
    const ended = once(up, "exit");
    while (!tracesOnHost(instance.mark).programs.includes("tini")) await delay(2);
    process.kill(-up.pid!, "SIGINT");
    assert.deepEqual(await ended, [130, null]);
    assert.deepEqual(tracesOnHost(instance.mark).programs, []);
    await cluster.up();
    await stillHasItsData("reader");
  });

  it("starts although a volume is damaged, and only that one is out of use", async () => {
    await cluster.down();
    const image = instance.path("sandbox", "volumes", "damaged.img");
    fs.writeFileSync(image, "no file system");
    try {
      await cluster.up();
      await stillHasItsData("reader");
    } finally {
      fs.rmSync(image);
    }
  });

  it("is replaced by up when what it is made of has changed", async () => {
    const { pid } = cluster.node;
    const parts = await sandboxParts();
    await lifecycle.up(instance, { ...parts, programs: `${parts.programs}/.` });
    assert.notEqual(cluster.node.pid, pid);
    await stillHasItsData("reader");
  });

  it("leaves no process, mount, interface, rule, loop device or cgroup after down, and keeps its volumes", async () => {
    const port = instance.port;
    await cluster.down();
    assert.deepEqual(tracesOnHost(instance.mark), untouched);
    assert.equal((await lifecycle.status(instance)).running, false);
    await cluster.up();
    assert.equal(instance.port, port, "kubeconfigs stay valid");
    await stillHasItsData("reader");
  });

  it("runs beside another instance", async () => {
    const other = new TestCluster("beside");
    try {
      await other.remove();
      await other.up();
      assert.notEqual(other.instance.port, instance.port);
      assert.deepEqual((await lifecycle.status(instance)).missing, []);
      assert.deepEqual((await other.core.listPersistentVolumeClaimForAllNamespaces()).items, []);
    } finally {
      await other.remove();
    }
  });

  describe("bad input", () => {
    const cli = (...args: string[]) =>
      spawnSync("node", ["scripts/run.mjs", "scripts/sandbox/cli.ts", ...args], {
        cwd: projectRoot,
        encoding: "utf8",
      });

    it("refuses a name that is none", () => {
      const { status, stderr } = cli("up", "--name", "../x");
      assert.equal(status, 1);
      assert.match(stderr, /^error: "\.\.\/x" is no name for a sandbox cluster: use /);
    });

    it("refuses a port in use, and leaves the cluster as it was", async () => {
      const listener = net.createServer().listen(0, "127.0.0.1");
      await new Promise((resolve) => listener.once("listening", resolve));
      const { port } = listener.address() as net.AddressInfo;
      const parts = await sandboxParts();
      await assert.rejects(lifecycle.up(instance, parts, { port }), {
        message: `Port ${port} of 127.0.0.1 is in use: leave out --port, or name a free one.`,
      });
      assert.deepEqual((await lifecycle.status(instance)).missing, []);
      await new Promise((resolve) => listener.close(resolve));
      await lifecycle.up(instance, parts, { port });
      assert.deepEqual(await lifecycle.status(instance), {
        running: true,
        port,
        missing: [],
        apiServer: true,
      });
    });

    it("does not reset without being asked to", () => {
      const { status, stderr } = cli("reset", "--name", instance.name);
      assert.equal(status, 1);
      assert.match(stderr, /add --yes if this is meant/);
      assert.ok(fs.existsSync(instance.path("sandbox", "volumes")));
    });

    it("says who else is at work on the instance", async () => {
      const busy = lifecycle.up(instance, await sandboxParts());
      const { status, stderr } = cli("down", "--name", instance.name);
      assert.equal(status, 1);
      assert.match(stderr, /Another command is working on the sandbox "test-sandbox"/);
      await busy;
    });
  });

  async function running(name: string): Promise<void> {
    await eventually(`pod ${name} runs`, async () => {
      const { status } = await cluster.core.readNamespacedPod({ namespace: "default", name });
      return status?.phase === "Running" && status.containerStatuses?.every(({ ready }) => ready);
    });
  }

  /** The API server may still show a pod as it was before; only its answer counts. */
  async function stillHasItsData(name: string): Promise<void> {
    await eventually(`${name} has its data`, () =>
      Promise.resolve(cluster.exec("default", name, "stat", "--format=%s", "/data/more") === `${48 << 20}\n`),
    );
  }

  function readClaim(name: string) {
    return cluster.core.readNamespacedPersistentVolumeClaim({ namespace: "default", name });
  }
});

function claim(name: string, size: string) {
  return {
    ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name, namespace: "default" } },
    spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: size } } },
  };
}

function pod(name: string, claimName: string) {
  return {
    ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default" } },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          ...{ name: "main", image, command: ["sh", "-c", "trap exit INT TERM; sleep infinity & wait"] },
          volumeMounts: [{ name: "data", mountPath: "/data" }],
        },
      ],
      volumes: [{ name: "data", persistentVolumeClaim: { claimName } }],
    },
  };
}

/** Host process ids of the node's components, by component. */
function pidsOf(cluster: TestCluster): Record<string, number> {
  const namespace = fs.readlinkSync(`/proc/${cluster.node.pid}/ns/pid`);
  const found: Record<string, number> = {};
  for (const pid of processIds()) {
    try {
      if (fs.readlinkSync(`/proc/${pid}/ns/pid`) !== namespace) continue;
      const line = fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1).join(" ");
      const component = components(cluster.instance.port!, cluster.instance.cgroup).find(
        ({ command }) => command.join(" ") === line,
      );
      // socat has a child for each connection; the listener is the one that is older.
      if (component && !(component.name in found)) found[component.name] = pid;
    } catch {
      // it has ended
    }
  }
  return found;
}

/** What of a sandbox can be seen on the host. */
function tracesOnHost(mark: string) {
  const output = (program: string, ...args: string[]) =>
    spawnSync(program, args, { encoding: "utf8" }).stdout ?? "";
  const name = mark.replace(/^durable-postgres-sandbox-(.*)-\w+$/, "$1");
  return {
    programs: processIds()
      .map(commandLine)
      .filter((line) => line.includes(mark))
      .map(([program = ""]) => path.basename(program)),
    mounts: fs
      .readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(`sandbox/${name}/`)),
    interfaces: fs.readdirSync("/sys/class/net").sort(),
    routes: fs.readFileSync("/proc/net/route", "utf8"),
    namespaces: output("ip", "netns", "list"),
    // With the node's own tools, in the host's network.
    rules: ["iptables-save", "ip6tables-save"].map((tool) => {
      const result = spawnSync("chroot", [nodeRootfs, `/usr/sbin/${tool}`], { encoding: "utf8" });
      assert.equal(result.status, 0, result.stderr);
      return result.stdout.replaceAll(/^#.*$|\[\d+:\d+\]/gm, ""); // dates and counters
    }),
    kernel: ["kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom"].map(
      (setting) => fs.readFileSync(`/proc/sys/${setting}`, "utf8"),
    ),
    loops: output("losetup", "--list", "--noheadings", "--output", "BACK-FILE")
      .split("\n")
      .filter((file) => file.includes(`/sandbox/${name}/`)),
    cgroups: [
      "/sys/fs/cgroup",
      ...fs.readdirSync("/sys/fs/cgroup").map((name) => `/sys/fs/cgroup/${name}`),
    ].filter((hierarchy) => fs.existsSync(`${hierarchy}/${mark}`)),
  };
}

function commandLine(pid: number): string[] {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return []; // it has ended
  }
}

function processIds(): number[] {
  return fs
    .readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .sort((a, b) => a - b);
}

/** Devices that some kernels put into every new network namespace, without a peer. */
function isKernelDefault(name: string): boolean {
  return /^(ifb|tunl|sit|gre|gretap|erspan|ip6tnl|ip6gre|ip_vti|ip6_vti|teql)\d+$/.test(name);
}
