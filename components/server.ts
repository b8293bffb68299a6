import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { type Layout, pgdata } from "./layout";
import { mountedFiles, podScripts } from "./mounted-files";
import {
  claimVolume,
  configMapVolume,
  restrictedContainer,
  restrictedPod,
  scratchMounts,
  scratchVolumes,
  scriptsPath,
} from "./pod";
import { fieldManager } from "./retention";

const serverName = "postgres";
const labels = { app: serverName };
const port = 5432;
const configPath = "/durable-postgres/config";

/** Who may connect, and how: the operating system's postgres user without a password, all others by theirs. */
const hostBasedAuthentication = `# TYPE  DATABASE  USER      ADDRESS  METHOD
local   all       postgres           peer
local   all       all                scram-sha-256
host    all       all       all      scram-sha-256
`;

export interface ServerArgs {
  /** Namespace of the server. */
  readonly namespace: pulumi.Input<string>;

  /** What must have succeeded before the server starts. */
  readonly startAfter: pulumi.Resource;

  /** PostgreSQL image. A new one restarts the server; another major version is refused by the data. */
  readonly image: string;

  /** Where the cluster lies on the claim, and whom it belongs to. */
  readonly layout: Layout;

  /** Claim that holds the cluster. */
  readonly dataClaim: pulumi.Input<string>;

  /** Claim for archived WAL. */
  readonly walArchiveClaim: pulumi.Input<string>;

  /** CPU that is requested, such as `500m`. It is not limited. */
  readonly cpu: string;

  /** Memory that is requested, and its limit, such as `4Gi`. A server beyond it is killed and recovers. */
  readonly memory: string;
}

/**
 * The one PostgreSQL server and the Service in front of it. It serves the cluster on its claim or does not start:
 * it holds no path to initdb, no password, and no `POSTGRES_DB`.
 */
export class Server extends pulumi.ComponentResource {
  /** Name under which the cluster's pods reach the server. */
  readonly host: pulumi.Output<string>;
  readonly port = port;

  /** PGDATA in container `db`. */
  readonly pgdata: string;

  constructor(name: string, args: ServerArgs, opts?: pulumi.ComponentResourceOptions) {
    super("durable-postgres:index:Server", name, {}, opts);
    this.pgdata = pgdata(args.layout);
    const scripts = mountedFiles(
      `${serverName}-scripts`,
      args.namespace,
      podScripts("serve.sh", "volume.sh"),
      { parent: this },
    );
    const config = mountedFiles(
      `${serverName}-config`,
      args.namespace,
      { "pg_hba.conf": hostBasedAuthentication },
      { parent: this },
    );

    new k8s.apps.v1.Deployment(
      serverName,
      {
        metadata: { name: serverName, namespace: args.namespace, labels, annotations: fieldManager },
        spec: {
          // No replicas: whoever scales the server down for a repair keeps it down over a `pulumi up`.
          selector: { matchLabels: labels },
          // A second pod on the claim, even for a moment, is a second writer.
          strategy: { type: "Recreate" },
          template: {
            metadata: { labels },
            spec: {
              ...restrictedPod(args.layout),
              // The last checkpoint of a busy server takes minutes; a kill before its end means recovery.
              terminationGracePeriodSeconds: 300,
              containers: [this.container(args)],
              volumes: [
                claimVolume("data", args.dataClaim),
                claimVolume("wal-archive", args.walArchiveClaim),
                configMapVolume("scripts", scripts),
                configMapVolume("config", config),
                ...scratchVolumes,
              ],
            },
          },
        },
      },
      { parent: this, dependsOn: args.startAfter },
    );

    const service = new k8s.core.v1.Service(
      serverName,
      {
        metadata: {
          name: serverName,
          namespace: args.namespace,
          labels,
          // Waiting for its endpoints would repeat the wait for the Deployment, and never end while scaled to 0.
          annotations: { ...fieldManager, "pulumi.com/skipAwait": "true" },
        },
        spec: {
          type: "ClusterIP",
          selector: labels,
          ports: [{ name: "postgres", port, targetPort: "postgres" }],
        },
      },
      { parent: this },
    );
    this.host = pulumi.interpolate`${service.metadata.name}.${service.metadata.namespace}.svc`;
    this.registerOutputs({ host: this.host, port: this.port, pgdata: this.pgdata });
  }

  private container({ image, layout, cpu, memory }: ServerArgs): k8s.types.input.core.v1.Container {
    const isReady = { exec: { command: ["pg_isready", "--quiet", "--host=/var/run/postgresql"] } };
    return {
      name: "db",
      image,
      command: ["/bin/sh", `${scriptsPath}/serve.sh`],
      args: [
        ["-c", `hba_file=${configPath}/pg_hba.conf`],
        ["-c", "listen_addresses=*"],
        ["-c", "unix_socket_directories=/var/run/postgresql"],
      ].flat(),
      env: [
        { name: "DATA_MOUNT", value: layout.mountPath },
        { name: "PGDATA", value: this.pgdata },
      ],
      ports: [{ name: "postgres", containerPort: port }],
      resources: { requests: { cpu, memory }, limits: { memory } },
      securityContext: restrictedContainer,
      terminationMessagePolicy: "FallbackToLogsOnError",
      // A day: crash recovery and the replay of an archive take as long as they take. No liveness probe: PostgreSQL
      // restarts its own processes, and a kill of a slow server only makes it recover once more.
      startupProbe: { ...isReady, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 43_200 },
      readinessProbe: { ...isReady, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 3 },
      volumeMounts: [
        { name: "data", mountPath: layout.mountPath },
        { name: "wal-archive", mountPath: "/wal-archive" },
        { name: "scripts", mountPath: scriptsPath, readOnly: true },
        { name: "config", mountPath: configPath, readOnly: true },
        ...scratchMounts,
      ],
    };
  }
}
