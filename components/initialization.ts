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

export const initializationJobName = "postgres-initialize";

/** Not the server's path: no image declares a VOLUME here that could hide a part of the claim from the script. */
const dataMount = "/durable-postgres/data";
const passwordPath = "/durable-postgres/superuser";

export interface InitializationArgs {
  /** Namespace of the Job. */
  readonly namespace: pulumi.Input<string>;

  /** PostgreSQL image that initdb comes from. */
  readonly image: string;

  /** Where the cluster goes on the claim, and whom it belongs to. */
  readonly layout: Layout;

  /** The claim to fill, if it is empty. */
  readonly dataClaim: pulumi.Input<string>;

  /** Secret whose key `password` becomes the superuser's password. */
  readonly superuserSecret: pulumi.Input<string>;

  /** Id of the Job where it has succeeded before. It is then imported, and never run again, whatever changes. */
  readonly succeededJob?: string;
}

/**
 * The Job that fills an empty data claim with a new cluster. It exits at once on a complete cluster, refuses on
 * anything else, and is the only object that holds a path to initdb.
 */
export class Initialization extends pulumi.ComponentResource {
  constructor(name: string, args: InitializationArgs, opts?: pulumi.ComponentResourceOptions) {
    super("durable-postgres:index:Initialization", name, {}, opts);
    const scripts = mountedFiles(
      `${initializationJobName}-scripts`,
      args.namespace,
      podScripts("initialize.sh", "volume.sh"),
      { parent: this },
    );

    new k8s.batch.v1.Job(
      initializationJobName,
      {
        metadata: {
          name: initializationJobName,
          namespace: args.namespace,
          // A failed run is replaced by the next `pulumi up`.
          annotations: { ...fieldManager, "pulumi.com/replaceUnready": "true" },
        },
        spec: {
          // Its refusals do not get better by repetition.
          backoffLimit: 0,
          template: {
            spec: {
              ...restrictedPod(args.layout),
              restartPolicy: "Never",
              containers: [
                {
                  name: "initialize",
                  image: args.image,
                  command: ["/bin/sh", `${scriptsPath}/initialize.sh`],
                  args: [...args.layout.initdbOptions],
                  env: [
                    { name: "DATA_MOUNT", value: dataMount },
                    { name: "PGDATA", value: pgdata(args.layout, dataMount) },
                    { name: "PASSWORD_FILE", value: `${passwordPath}/password` },
                  ],
                  securityContext: restrictedContainer,
                  terminationMessagePolicy: "FallbackToLogsOnError",
                  volumeMounts: [
                    { name: "data", mountPath: dataMount },
                    { name: "scripts", mountPath: scriptsPath, readOnly: true },
                    { name: "superuser", mountPath: passwordPath, readOnly: true },
                    ...scratchMounts,
                  ],
                },
              ],
              volumes: [
                claimVolume("data", args.dataClaim),
                configMapVolume("scripts", scripts),
                {
                  name: "superuser",
                  secret: {
                    secretName: args.superuserSecret,
                    items: [{ key: "password", path: "password" }],
                    defaultMode: 0o400,
                  },
                },
                ...scratchVolumes,
              ],
            },
          },
        },
      },
      {
        parent: this,
        ignoreChanges: args.succeededJob ? ["spec"] : [],
        // After a lost state, a create over the Job would fail where the image is another one by now.
        import: args.succeededJob,
      },
    );
    this.registerOutputs({});
  }
}
