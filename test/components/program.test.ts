import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import program from "../../index";
import { ownerLabels } from "../../components/ownership";
import { announceRetained } from "../../components/retention";
import { deploy, type Program } from "../setup";
import { ApiServer } from "./api-server";

type Outputs = Record<string, unknown>;
type Tree = Record<string, unknown>;

const types = {
  claim: "kubernetes:core/v1:PersistentVolumeClaim",
  configMap: "kubernetes:core/v1:ConfigMap",
  deployment: "kubernetes:apps/v1:Deployment",
  job: "kubernetes:batch/v1:Job",
  namespace: "kubernetes:core/v1:Namespace",
  provider: "pulumi:providers:kubernetes",
  secret: "kubernetes:core/v1:Secret",
  service: "kubernetes:core/v1:Service",
};
const retainedTypes = [types.claim, types.namespace, types.secret];
const labels = ownerLabels({ project: "durable-postgres", stack: "test" });

interface Pod extends Tree {
  readonly securityContext: Tree;
  readonly automountServiceAccountToken?: boolean;
  readonly containers: [Container];
  readonly volumes: Tree[];
}
interface Container extends Tree {
  readonly command: string[];
  readonly args: string[];
  readonly env: { name: string; value: string }[];
  readonly volumeMounts: { name: string; mountPath: string }[];
}
const podOf = (registration: { inputs: Tree }) =>
  (registration.inputs.spec as { template: { spec: Pod } }).template.spec;

describe("the program", () => {
  let api: ApiServer;
  let fresh: Program<Outputs>;

  async function run(settings: Record<string, string> = {}): Promise<Program<Outputs>> {
    const config: Record<string, string> = {
      kubeContext: "sandbox",
      kubeconfig: api.kubeconfig,
      clusterIdentifier: "sandbox",
      namespace: "records",
      image: "docker.io/library/postgres:15",
      majorVersion: "15",
      dataSize: "1Gi",
      walArchiveSize: "512Mi",
      backupSize: "768Mi",
      storageClass: "",
      cpu: "100m",
      memory: "512Mi",
      ...settings,
    };
    return deploy(async () => {
      for (const [key, value] of Object.entries(config))
        pulumi.runtime.setConfig(`durable-postgres:${key}`, value);
      return program();
    });
  }

  before(async () => {
    api = await ApiServer.start();
    fresh = await run();
  });
  after(() => api.stop());

  it("registers exactly these objects", () => {
    assert.deepEqual(fresh.registrations.map(({ type, name }) => `${type.split(":").pop()} ${name}`).sort(), [
      "ConfigMap postgres-config",
      "ConfigMap postgres-initialize-scripts",
      "ConfigMap postgres-scripts",
      "DatabaseNamespace namespace",
      "Deployment postgres",
      "Initialization initialization",
      "Job postgres-initialize",
      "Namespace records",
      "PersistentVolumeClaim pg-wal-archive",
      "PersistentVolumeClaim pgbackups",
      "PersistentVolumeClaim pgdata-big",
      "RandomPassword superuser-password",
      "Secret postgres-superuser",
      "Server server",
      "Service postgres",
      "SuperuserSecret superuser",
      "VolumeClaims claims",
      "kubernetes kubernetes",
    ]);
  });

  it("has stable identities for the data", () => {
    const urns = retainedTypes.flatMap((type) =>
      fresh.all(type).map(({ urn }) => urn.replace(/^.*::(?=durable)/, "")),
    );
    assert.deepEqual(urns.sort(), [
      "durable-postgres:index:DatabaseNamespace$kubernetes:core/v1:Namespace::records",
      "durable-postgres:index:SuperuserSecret$kubernetes:core/v1:Secret::postgres-superuser",
      "durable-postgres:index:VolumeClaims$kubernetes:core/v1:PersistentVolumeClaim::pg-wal-archive",
      "durable-postgres:index:VolumeClaims$kubernetes:core/v1:PersistentVolumeClaim::pgbackups",
      "durable-postgres:index:VolumeClaims$kubernetes:core/v1:PersistentVolumeClaim::pgdata-big",
    ]);
  });

  it("uses the explicit provider for every object of Kubernetes", () => {
    const provider = fresh.find(types.provider);
    assert.equal(provider.inputs.clusterIdentifier, "sandbox");
    assert.equal(provider.inputs.context, "sandbox");
    const objects = fresh.registrations.filter(({ type }) => type.startsWith("kubernetes:"));
    assert.equal(objects.length, 11);
    for (const { name, provider: used } of objects) assert(used.startsWith(`${provider.urn}::`), name);
  });

  it("protects and retains what outlives it, and nothing else", () => {
    for (const { type, name, protect, retainOnDelete, inputs } of fresh.registrations) {
      const outlives = retainedTypes.includes(type);
      assert.equal(protect, outlives, name);
      assert.equal(retainOnDelete, outlives, name);
      if (!outlives) continue;
      const metadata = inputs.metadata as { labels: Tree; annotations: Tree };
      for (const [label, value] of Object.entries(labels)) assert.equal(metadata.labels[label], value, name);
      assert.equal(metadata.annotations["pulumi.com/patchFieldManager"], "durable-postgres", name);
    }
  });

  it("declares the claims", () => {
    const spec = (name: string) => fresh.find(types.claim, name).inputs.spec;
    const sized = (storage: string) => ({
      accessModes: ["ReadWriteOnce"],
      resources: { requests: { storage } },
    });
    assert.deepEqual(spec("pgdata-big"), sized("1Gi"));
    assert.deepEqual(spec("pg-wal-archive"), sized("512Mi"));
    assert.deepEqual(spec("pgbackups"), sized("768Mi"));
    for (const { inputs, ignoreChanges } of fresh.all(types.claim)) {
      const { annotations } = inputs.metadata as { annotations: Tree };
      assert.equal(annotations["pulumi.com/skipAwait"], "true");
      assert.deepEqual(ignoreChanges, ["spec.volumeName", "spec.storageClassName"]);
    }
  });

  it("holds to a configured storage class", async () => {
    const changed = await run({ storageClass: "fast" });
    for (const { inputs, ignoreChanges } of changed.all(types.claim)) {
      assert.equal((inputs.spec as Tree).storageClassName, "fast");
      assert.deepEqual(ignoreChanges, ["spec.volumeName"]);
    }
  });

  it("hooks the deletion of the data claim, and of nothing else", () => {
    assert.deepEqual(fresh.hooks, ["data-claim-outlives-the-stack"]);
    for (const { name, beforeDelete } of fresh.registrations) {
      assert.deepEqual(beforeDelete, name === "pgdata-big" ? fresh.hooks : [], name);
    }
  });

  it("lets a deletion pass that somebody insists on, because the claim stays", async () => {
    await assert.doesNotReject(
      announceRetained({ urn: "urn", id: "records/pgdata-big", name: "pgdata-big", type: types.claim }),
    );
  });

  it("enforces Pod Security restricted", () => {
    const { labels } = fresh.find(types.namespace).inputs.metadata as { labels: Tree };
    assert.equal(labels["pod-security.kubernetes.io/enforce"], "restricted");
  });

  it("leaves the password in the Secret alone once it exists", () => {
    const secret = fresh.find(types.secret);
    assert.equal(secret.inputs.type, "Opaque");
    assert.deepEqual(secret.ignoreChanges, ["data", "stringData"]);
  });

  it("passes the restricted profile in every pod, as the image's user", () => {
    for (const registration of [fresh.find(types.job), fresh.find(types.deployment)]) {
      const pod = podOf(registration);
      assert.equal(pod.automountServiceAccountToken, false);
      assert.deepEqual(pod.securityContext, {
        runAsNonRoot: true,
        runAsUser: 999,
        runAsGroup: 999,
        fsGroup: 999,
        fsGroupChangePolicy: "OnRootMismatch",
        seccompProfile: { type: "RuntimeDefault" },
      });
      for (const container of pod.containers) {
        assert.deepEqual(container.securityContext, {
          allowPrivilegeEscalation: false,
          capabilities: { drop: ["ALL"] },
          readOnlyRootFilesystem: true,
        });
        assert.equal(container.envFrom, undefined);
        for (const variable of container.env)
          assert.deepEqual(Object.keys(variable).sort(), ["name", "value"]);
      }
      assert.equal(pod.initContainers, undefined);
    }
  });

  it("runs as Alpine's user on Alpine", async () => {
    const changed = await run({ image: "docker.io/library/postgres:16-alpine", majorVersion: "16" });
    const { securityContext } = podOf(changed.find(types.deployment));
    assert.deepEqual(
      [securityContext.runAsUser, securityContext.runAsGroup, securityContext.fsGroup],
      [70, 70, 70],
    );
  });

  describe("the server", () => {
    const deployment = () => fresh.find(types.deployment);
    const container = () => podOf(deployment()).containers[0];

    it("is one, replaced by recreation, and scaled by nobody here", () => {
      const spec = deployment().inputs.spec as Tree;
      assert.equal("replicas" in spec, false);
      assert.deepEqual(spec.strategy, { type: "Recreate" });
      assert.deepEqual(spec.selector, { matchLabels: { app: "postgres" } });
      assert.equal(podOf(deployment()).terminationGracePeriodSeconds, 300);
    });

    it("holds no path to initdb", () => {
      assert.equal(container().name, "db");
      assert.deepEqual(container().command, ["/bin/sh", "/durable-postgres/scripts/serve.sh"]);
      const scripts = fresh.find(types.configMap, "postgres-scripts").inputs.data as Record<string, string>;
      assert.deepEqual(Object.keys(scripts).sort(), ["serve.sh", "volume.sh"]);
      const everything = JSON.stringify([deployment().inputs, scripts]);
      assert.doesNotMatch(
        everything,
        /initdb|docker-entrypoint|POSTGRES_DB|POSTGRES_PASSWORD|postgres-superuser/,
      );
    });

    it("mounts the data claim once, at the layout's path", () => {
      assert.deepEqual(
        container().volumeMounts.map(({ name, mountPath }) => `${name} ${mountPath}`),
        [
          "data /var/lib/postgresql",
          "wal-archive /wal-archive",
          "scripts /durable-postgres/scripts",
          "config /durable-postgres/config",
          "run /var/run/postgresql",
          "tmp /tmp",
          "shm /dev/shm",
        ],
      );
      assert.deepEqual(container().env, [
        { name: "DATA_MOUNT", value: "/var/lib/postgresql" },
        { name: "PGDATA", value: "/var/lib/postgresql/15/docker" },
      ]);
    });

    it("takes its access rules from outside PGDATA, by password only over the network", () => {
      assert(container().args.includes("hba_file=/durable-postgres/config/pg_hba.conf"));
      const data = fresh.find(types.configMap, "postgres-config").inputs.data as Record<string, string>;
      const rules = data["pg_hba.conf"]!.split("\n").filter((line) => line && !line.startsWith("#"));
      assert.deepEqual(
        rules.map((rule) => rule.split(/\s+/).join(" ")),
        ["local all postgres peer", "local all all scram-sha-256", "host all all all scram-sha-256"],
      );
    });

    it("gives recovery hours, and is never killed for being slow", () => {
      const { startupProbe, readinessProbe, livenessProbe } = container();
      const { periodSeconds, failureThreshold } = startupProbe as {
        periodSeconds: number;
        failureThreshold: number;
      };
      assert.equal(periodSeconds * failureThreshold, 24 * 60 * 60);
      assert.notEqual(readinessProbe, undefined);
      assert.equal(livenessProbe, undefined);
    });

    it("starts after the initialization", () => {
      assert(deployment().dependencies.includes(fresh.find(types.job).urn));
    });
  });

  describe("the initialization", () => {
    it("sees the whole claim, and the password as a file alone", () => {
      const [container] = podOf(fresh.find(types.job)).containers;
      const mount = container.volumeMounts.find(({ name }) => name === "data")!;
      assert(
        !mount.mountPath.startsWith("/var/lib/postgresql"),
        "an image's VOLUME could hide a part of the claim",
      );
      assert.deepEqual(container.env, [
        { name: "DATA_MOUNT", value: mount.mountPath },
        { name: "PGDATA", value: `${mount.mountPath}/15/docker` },
        { name: "PASSWORD_FILE", value: "/durable-postgres/superuser/password" },
      ]);
      assert.deepEqual(container.args, []);
    });

    it("is never repeated", () => {
      assert.equal((fresh.find(types.job).inputs.spec as Tree).backoffLimit, 0);
    });

    it("can be corrected until it has succeeded, and is left alone from then on", async () => {
      assert.deepEqual(fresh.find(types.job).ignoreChanges, []);
      assert.equal(fresh.find(types.job).importId, "");
      const path = "/apis/batch/v1/namespaces/records/jobs/postgres-initialize";
      api.objects.set(path, { status: { succeeded: 1 } });
      const later = await run();
      api.objects.delete(path);
      assert.deepEqual(later.find(types.job).ignoreChanges, ["spec"]);
      assert.equal(later.find(types.job).importId, "records/postgres-initialize");
    });
  });

  it("names ConfigMaps by their content", async () => {
    const names = (program: Program<Outputs>) =>
      program.all(types.configMap).map(({ inputs }) => (inputs.metadata as { name: string }).name);
    for (const name of names(fresh)) assert.match(name, /^postgres-[a-z-]+-[0-9a-f]{10}$/);
    assert.deepEqual(names(await run()).sort(), names(fresh).sort());
    for (const { inputs } of fresh.all(types.configMap)) assert.equal(inputs.immutable, true);
  });

  it("does not wait for the Service", () => {
    const { metadata, spec } = fresh.find(types.service).inputs as {
      metadata: { annotations: Tree };
      spec: Tree;
    };
    assert.equal(metadata.annotations["pulumi.com/skipAwait"], "true");
    assert.deepEqual(spec, {
      type: "ClusterIP",
      selector: { app: "postgres" },
      ports: [{ name: "postgres", port: 5432, targetPort: "postgres" }],
    });
  });

  it("says how to connect, and never the password", async () => {
    const outputs = await new Promise<Outputs>((resolve) => pulumi.output(fresh.result).apply(resolve));
    assert.deepEqual(outputs, {
      host: "postgres.records.svc",
      port: 5432,
      database: "postgres",
      superuserSecret: "postgres-superuser",
      namespace: "records",
      dataClaim: "pgdata-big",
      walArchiveClaim: "pg-wal-archive",
      backupsClaim: "pgbackups",
      image: "docker.io/library/postgres:15",
      pgdata: "/var/lib/postgresql/15/docker",
    });
  });

  describe("over objects that exist", () => {
    const paths = {
      records: "/api/v1/namespaces/records",
      "postgres-superuser": "/api/v1/namespaces/records/secrets/postgres-superuser",
      "pgdata-big": "/api/v1/namespaces/records/persistentvolumeclaims/pgdata-big",
      "pg-wal-archive": "/api/v1/namespaces/records/persistentvolumeclaims/pg-wal-archive",
      pgbackups: "/api/v1/namespaces/records/persistentvolumeclaims/pgbackups",
    };
    afterEach(() => api.objects.clear());

    it("imports each", async () => {
      for (const path of Object.values(paths)) api.objects.set(path, { metadata: { labels } });
      const changed = await run();
      for (const { name, type, importId } of changed.registrations) {
        const expected = retainedTypes.includes(type) ? (name === "records" ? name : `records/${name}`) : "";
        assert.equal(importId, expected, name);
      }
    });

    it("registers nothing where one belongs to another", async () => {
      api.objects.set(paths.pgbackups, {
        metadata: { labels: { ...labels, "durable-postgres/stack": "prod" } },
      });
      await assert.rejects(run(), /PersistentVolumeClaim records\/pgbackups belongs to stack prod/);
    });
  });
});
