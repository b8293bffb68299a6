import assert from "node:assert/strict";
import { Cluster, loadKubeConfig } from "../../components/cluster";
import type { ObjectKey } from "../../components/ownership";
import { ownerLabels } from "../../components/ownership";
import { ApiServer } from "./api-server";

const owner = { project: "durable-postgres", stack: "test" };
const namespace: ObjectKey = { kind: "Namespace", name: "records" };
const claim: ObjectKey = { kind: "PersistentVolumeClaim", name: "pgdata-big", namespace: "records" };
const secret: ObjectKey = { kind: "Secret", name: "postgres-superuser", namespace: "records" };
const claimPath = "/api/v1/namespaces/records/persistentvolumeclaims/pgdata-big";
const jobPath = "/apis/batch/v1/namespaces/records/jobs/postgres-initialize";

describe("cluster", () => {
  let api: ApiServer;
  let cluster: Cluster;
  beforeEach(async () => {
    api = await ApiServer.start();
    cluster = new Cluster(loadKubeConfig({ kubeconfig: api.kubeconfig, kubeContext: "sandbox" }), "sandbox");
  });
  afterEach(() => api.stop());

  it("imports what exists and creates what does not", async () => {
    api.objects.set(claimPath, { metadata: { labels: ownerLabels(owner) } });
    const imports = await cluster.findRetained([namespace, claim, secret], owner);
    assert.equal(imports(claim), "records/pgdata-big");
    assert.equal(imports(namespace), undefined);
    assert.equal(imports(secret), undefined);
    assert.deepEqual(api.requests.sort(), [
      "GET /api/v1/namespaces/records",
      `GET ${claimPath}`,
      "GET /api/v1/namespaces/records/secrets/postgres-superuser",
    ]);
  });

  it("refuses an object of another stack", async () => {
    api.objects.set(claimPath, { metadata: { labels: ownerLabels({ ...owner, stack: "prod" }) } });
    await assert.rejects(cluster.findRetained([claim], owner), /belongs to stack prod/);
  });

  it("refuses an object that is being deleted", async () => {
    api.objects.set(claimPath, {
      metadata: { labels: ownerLabels(owner), deletionTimestamp: "2026-11-20T00:00:00Z" },
    });
    await assert.rejects(cluster.findRetained([claim], owner), /is being deleted/);
  });

  for (const status of [401, 403, 429, 500, 503]) {
    it(`never takes ${status} for absent`, async () => {
      api.status = status;
      await assert.rejects(cluster.findRetained([claim], owner), {
        message:
          `Cannot tell whether PersistentVolumeClaim records/pgdata-big exists (HTTP ${status}), and nothing is done ` +
          "on a guess: check that context sandbox reaches the cluster and may read the object, then run this again.",
      });
    });
  }

  it("never takes an unreachable cluster for an empty one", async () => {
    const gone = await ApiServer.start();
    const unreachable = new Cluster(
      loadKubeConfig({ kubeconfig: gone.kubeconfig, kubeContext: "sandbox" }),
      "sandbox",
    );
    await gone.stop();
    await assert.rejects(unreachable.findRetained([claim], owner), /Cannot tell whether .*ECONNREFUSED/);
  });

  it("tells a Job that has succeeded from one that has not", async () => {
    const done = () => cluster.findSucceeded("records", "postgres-initialize");
    assert.equal(await done(), undefined);
    api.objects.set(jobPath, { status: { failed: 1 } });
    assert.equal(await done(), undefined);
    api.objects.set(jobPath, { status: { succeeded: 1 } });
    assert.equal(await done(), "records/postgres-initialize");
  });

  it("keeps the named context of a kubeconfig and nothing else", () => {
    const text = loadKubeConfig({ kubeconfig: api.kubeconfig, kubeContext: "sandbox" }).exportConfig();
    assert.equal((JSON.parse(text) as { "current-context": string })["current-context"], "sandbox");
    assert.match(text, /token-of-tester/);
    assert.doesNotMatch(text, /token-of-admin|production/);
  });

  it("lists the known contexts when it does not know one", () => {
    assert.throws(() => loadKubeConfig({ kubeconfig: api.kubeconfig, kubeContext: "staging" }), {
      message:
        `Context staging is not in ${api.kubeconfig}, which knows sandbox, production: ` +
        "correct durable-postgres:kubeContext.",
    });
  });

  it("says which kubeconfig it cannot read", () => {
    assert.throws(
      () => loadKubeConfig({ kubeconfig: "/nowhere/kubeconfig", kubeContext: "sandbox" }),
      /Cannot read \/nowhere\/kubeconfig \(ENOENT/,
    );
  });
});
