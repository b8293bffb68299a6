import * as assert from "node:assert/strict";
import { layoutFor, pgdata } from "../../components/layout";
import { postgresImage } from "../../scripts/images/build";
import { eventually, TestCluster } from "./cluster";

const namespace = "default";
const MOUNT = "/var/lib/postgresql";

/**
 * The incident behind this project, on a real cluster. An image's own VOLUME
 * is a mount: up to PostgreSQL 17 it covers the claim at PGDATA, and the
 * runtime makes a new, empty one for every container.
 */
describe("image VOLUME below the claim's mount, PostgreSQL 15", function () {
  this.timeout(180_000);
  const cluster = new TestCluster("trap");

  before(async () => {
    await cluster.remove();
    await cluster.up();
  });
  after(() => cluster.remove());

  it("loses every row at a container restart where PGDATA is the image's own directory", async () => {
    const directory = `${MOUNT}/data`;
    await serve("trap", directory);
    await writeRow("trap");
    assert.match(mountsOf("trap"), new RegExp(` ${directory} `), "the image's VOLUME is a mount of its own");

    await killServer("trap");
    assert.throws(() => readRow("trap"), /relation "kept" does not exist/);
    const { status } = await cluster.core.readNamespacedPersistentVolumeClaim({ namespace, name: "trap" });
    assert.equal(status?.phase, "Bound", "and everything looks right");
    assert.equal(cluster.exec(namespace, "trap", "find", MOUNT, "-xdev", "-name", "PG_VERSION"), "");
  });

  it("keeps them where PGDATA is the one that this project chooses", async () => {
    const layout = layoutFor("debian", 15);
    await serve("kept", pgdata(layout, MOUNT));
    await writeRow("kept");
    await killServer("kept");
    assert.equal(readRow("kept"), "1\n");
  });

  /** A server as it is often deployed: it initialises itself when it finds PGDATA empty. */
  async function serve(name: string, directory: string): Promise<void> {
    const start = `test -s "$PGDATA/PG_VERSION" || initdb --auth=trust; exec postgres`;
    await cluster.apply(
      {
        ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name, namespace } },
        spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "256Mi" } } },
      },
      {
        ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace } },
        spec: {
          terminationGracePeriodSeconds: 5,
          securityContext: { runAsUser: layoutFor("debian", 15).uid, fsGroup: layoutFor("debian", 15).uid },
          containers: [
            {
              ...{ name: "db", image: postgresImage(15).reference, command: ["sh", "-ec", start] },
              env: [{ name: "PGDATA", value: directory }],
              volumeMounts: [{ name: "data", mountPath: MOUNT }],
            },
          ],
          volumes: [{ name: "data", persistentVolumeClaim: { claimName: name } }],
        },
      },
    );
    await accepting(name);
  }

  function accepting(name: string): Promise<unknown> {
    return eventually(`${name} accepts connections`, () =>
      Promise.resolve(cluster.exec(namespace, name, "pg_isready")),
    );
  }

  async function writeRow(name: string): Promise<void> {
    cluster.exec(
      namespace,
      name,
      "psql",
      "-qc",
      "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1); CHECKPOINT",
    );
    await Promise.resolve();
  }

  function readRow(name: string): string {
    return cluster.exec(namespace, name, "psql", "-Atc", "SELECT id FROM kept");
  }

  async function killServer(name: string): Promise<void> {
    await cluster.killContainer(namespace, name, "db");
    await eventually("the container has been restarted", async () => {
      const { status } = await cluster.core.readNamespacedPod({ namespace, name });
      return status?.containerStatuses?.[0]?.restartCount === 1;
    });
    await accepting(name);
  }

  function mountsOf(name: string): string {
    return cluster.exec(namespace, name, "cat", "/proc/self/mountinfo");
  }
});
