import assert from "node:assert/strict";
import { spawn, spawnSync, type SpawnSyncReturns } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

const scripts = path.join(__dirname, "../../scripts/pod");

/** Stands for postgres and initdb: says how it was called, and does as much as the scripts look at. */
const tools = {
  postgres: `#!/bin/sh
echo "postgres $*"
flock -n "$DATA_MOUNT/.durable-postgres.lock" true && echo "lock is free" || echo "lock is held"
[ ! -e "$DATA_MOUNT/wait" ] || exec sleep 60
`,
  initdb: `#!/bin/sh
echo "initdb $*"
[ ! -e "$FAIL_INITDB" ] || exit 1
mkdir "$2/global" && echo 15 >"$2/PG_VERSION" && echo control >"$2/global/pg_control"
[ ! -e "$KILL_INITDB" ] || kill -9 $PPID
`,
};

describe("in-pod scripts", () => {
  let root: string;
  let mount: string;
  let pgdata: string;
  let env: Record<string, string>;
  beforeEach(() => {
    root = fs.mkdtempSync(path.join(os.tmpdir(), "pod-"));
    mount = path.join(root, "claim");
    pgdata = path.join(mount, "15/docker");
    fs.mkdirSync(mount);
    for (const [name, text] of Object.entries(tools)) file(`bin/${name}`, text, 0o755);
    env = {
      PATH: `${root}/bin:${process.env.PATH}`,
      DATA_MOUNT: mount,
      PGDATA: pgdata,
      PASSWORD_FILE: file("password", "secret"),
      MOUNTINFO: mounts("/", mount),
      TERMINATION_LOG: `${root}/termination-log`,
      FAIL_INITDB: `${root}/fail-initdb`,
      KILL_INITDB: `${root}/kill-initdb`,
    };
  });
  afterEach(() => fs.rmSync(root, { recursive: true }));

  function file(name: string, text: string, mode = 0o644): string {
    const target = path.resolve(root, name);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.writeFileSync(target, text, { mode });
    return target;
  }

  /** A mountinfo with the given mount points. */
  function mounts(...points: string[]): string {
    const lines = points.map(
      (point, i) => `${30 + i} 29 0:${40 + i} / ${point} rw,relatime shared:1 - ext4 /dev/x rw\n`,
    );
    return file("mountinfo", lines.join(""));
  }

  function cluster(): void {
    file(`${pgdata}/PG_VERSION`, "15\n");
    file(`${pgdata}/global/pg_control`, "control");
  }

  const run = (script: string, ...args: string[]) =>
    spawnSync("sh", [path.join(scripts, script), ...args], { env, encoding: "utf8" });

  /** Every file and directory of the claim except the lock, with its content. */
  function contents(): string[] {
    const names = fs.readdirSync(mount, { recursive: true, encoding: "utf8" });
    return names
      .filter((name) => name !== ".durable-postgres.lock")
      .map((name) => {
        const full = path.join(mount, name);
        return fs.statSync(full).isFile() ? `${name}: ${fs.readFileSync(full, "utf8")}` : name;
      })
      .sort();
  }

  /** Refused with one sentence, which is the termination message too. */
  function assertRefused({ status, stdout, stderr }: SpawnSyncReturns<string>, reason: RegExp): void {
    assert.equal(status, 78, stderr);
    assert.match(stderr, reason);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
    assert.equal(fs.readFileSync(env.TERMINATION_LOG!, "utf8"), stderr);
    assert.doesNotMatch(stdout, /postgres -D/);
  }

  for (const script of ["serve.sh", "initialize.sh"]) {
    describe(`${script} and mounts`, () => {
      beforeEach(cluster);

      const refused: [what: string, points: () => string[], reason: RegExp][] = [
        ["no mount of the claim", () => ["/"], /lies on the mount \/ and not on the data claim/],
        [
          "an image's volume above PGDATA",
          () => ["/", mount, `${mount}/15`],
          /lies on the mount .*\/15 and not on/,
        ],
        ["an image's volume at PGDATA", () => [mount, pgdata], /lies on the mount .*\/15\/docker and not on/],
        ["a mount inside PGDATA", () => [mount, `${pgdata}/pg_wal`], /pg_wal is a mount inside PGDATA/],
        [
          "a mount with the claim's path as a prefix",
          () => ["/", `${mount}-other`],
          /lies on the mount \/ and not/,
        ],
      ];
      for (const [what, points, reason] of refused) {
        it(`refuses ${what}`, () => {
          env.MOUNTINFO = mounts(...points());
          const before = contents();
          assertRefused(run(script), reason);
          assert.deepEqual(contents(), before);
        });
      }

      it("minds no mount beside PGDATA", () => {
        env.MOUNTINFO = mounts("/", mount, `${mount}/data`, "/wal-archive");
        assert.equal(run(script).status, 0);
      });
    });
  }

  describe("serve.sh", () => {
    it("becomes the server, with the lock", () => {
      cluster();
      const { status, stdout } = run("serve.sh", "-c", "listen_addresses=*");
      assert.equal(stdout, `postgres -D ${pgdata} -c listen_addresses=*\nlock is held\n`);
      assert.equal(status, 0);
    });

    for (const missing of ["PG_VERSION", "global/pg_control"]) {
      it(`refuses a cluster without ${missing}, and touches nothing`, () => {
        cluster();
        fs.rmSync(path.join(pgdata, missing));
        const before = contents();
        assertRefused(run("serve.sh"), /no complete PostgreSQL cluster in .*15\/docker/);
        assert.deepEqual(contents(), before);
      });
    }

    it("refuses an empty claim, and leaves it empty", () => {
      assertRefused(run("serve.sh"), /a server never creates one/);
      assert.deepEqual(contents(), []);
    });

    it("refuses beside another server, until that one has ended", async () => {
      cluster();
      file(`${mount}/wait`, "");
      const server = spawn("sh", [path.join(scripts, "serve.sh")], { env });
      const ended = once(server, "exit");
      await once(server.stdout, "data");
      assertRefused(run("serve.sh"), /two writers destroy a cluster/);
      // exec: the process that was started is the server, so that signals reach it.
      server.kill("SIGKILL");
      await ended;
      fs.rmSync(`${mount}/wait`);
      assert.equal(run("serve.sh").status, 0);
    });
  });

  describe("initialize.sh", () => {
    it("fills an empty claim", () => {
      const { status, stdout, stderr } = run("initialize.sh", "--locale-provider=builtin");
      assert.equal(status, 0, stderr);
      assert.match(
        stdout,
        new RegExp(
          `^initdb -D ${mount}/\\.initialize\\.\\w+ --username=postgres --pwfile=${root}/password --auth-local=peer ` +
            "--auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-instructions " +
            "--locale-provider=builtin\n",
        ),
      );
      assert.deepEqual(contents(), [
        "15",
        "15/docker",
        "15/docker/PG_VERSION: 15\n",
        "15/docker/global",
        "15/docker/global/pg_control: control\n",
      ]);
      assert.equal(fs.statSync(pgdata).mode & 0o777, 0o700);
      assert.equal(run("serve.sh").status, 0);
    });

    it("touches nothing on a complete cluster, even beside its server", () => {
      cluster();
      const before = contents();
      const lock = `${mount}/.durable-postgres.lock`;
      const { status, stdout } = spawnSync("flock", [lock, "sh", `${scripts}/initialize.sh`], {
        env,
        encoding: "utf8",
      });
      assert.equal(status, 0);
      assert.match(stdout, /nothing was touched/);
      assert.deepEqual(contents(), before);
    });

    it("refuses while somebody else holds the lock", () => {
      const lock = `${mount}/.durable-postgres.lock`;
      const result = spawnSync("flock", [lock, "sh", `${scripts}/initialize.sh`], { env, encoding: "utf8" });
      assertRefused(result, /Another server or job holds/);
    });

    it("takes empty directories for nothing", () => {
      for (const name of ["lost+found", "data", "15/docker"])
        fs.mkdirSync(`${mount}/${name}`, { recursive: true });
      const { status, stderr } = run("initialize.sh");
      assert.equal(status, 0, stderr);
      assert(fs.existsSync(`${pgdata}/PG_VERSION`));
    });

    const strangers = [
      "PG_VERSION",
      "16/docker/PG_VERSION",
      "data/pgdata/base/1/1259",
      "15/docker/PG_VERSION",
      "15/docker/base/1/1259",
      ".hidden",
      "file with spaces",
    ];
    for (const stranger of strangers) {
      it(`refuses a claim that holds ${stranger}, and touches nothing`, () => {
        file(`${mount}/${stranger}`, "content");
        const before = contents();
        const result = run("initialize.sh");
        assertRefused(result, /is not empty/);
        assert(result.stderr.includes(path.join(mount, stranger)), result.stderr);
        assert.deepEqual(contents(), before);
      });
    }

    it("leaves the claim empty when initdb fails", () => {
      file("fail-initdb", "");
      assert.equal(run("initialize.sh").status, 78);
      assert.match(fs.readFileSync(env.TERMINATION_LOG!, "utf8"), /^initdb failed/);
      assert(!fs.existsSync(pgdata));
      fs.rmSync(env.FAIL_INITDB!);
      assert.equal(run("initialize.sh").status, 0);
    });

    it("goes on after a kill", () => {
      file("kill-initdb", "");
      assert.equal(run("initialize.sh").signal, "SIGKILL");
      assert(!fs.existsSync(pgdata));
      assertRefused(run("serve.sh"), /no complete PostgreSQL cluster/);
      fs.rmSync(env.KILL_INITDB!);
      assert.equal(run("initialize.sh").status, 0);
      assert.deepEqual(fs.readdirSync(mount).sort(), [".durable-postgres.lock", "15"]);
    });

    it("says so when the claim is not writable", function () {
      env.DATA_MOUNT = "/proc/1";
      env.PGDATA = "/proc/1/15/docker";
      env.MOUNTINFO = mounts("/", "/proc/1");
      assertRefused(run("initialize.sh"), /The data claim at \/proc\/1 is not writable for uid/);
    });
  });
});
