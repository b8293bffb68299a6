import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { type ObjectKey, ownerLabels } from "./ownership";
import { fieldManager, type Retention, retained } from "./retention";

/** Names of the claims. They are the identity of the data: another name is another, empty volume. */
export const claimNames = { data: "pgdata-big", walArchive: "pg-wal-archive", backups: "pgbackups" } as const;

export interface VolumeClaimsArgs {
  /** Namespace of the claims. */
  readonly namespace: pulumi.Input<string>;

  /** Its name, known at plan time, to find claims that exist. */
  readonly namespaceName: string;

  /** How the stack holds it. */
  readonly retention: Retention;

  /** Sizes with a unit, such as `100Gi`. They grow in place where the class allows, and never shrink. */
  readonly sizes: Readonly<Record<keyof typeof claimNames, string>>;

  /**
   * Storage class of all three. It cannot change later.
   * @default - the cluster's default class
   */
  readonly storageClass?: string;

  /** Bound to the data claim: see `registerDataHook`. */
  readonly dataHook: pulumi.ResourceHook;
}

/** The volumes. Nothing in the program can replace or delete one; only their size is ever changed, upwards. */
export class VolumeClaims extends pulumi.ComponentResource {
  /** Holds PGDATA. */
  readonly data: pulumi.Output<string>;

  /** Holds archived WAL segments. */
  readonly walArchive: pulumi.Output<string>;

  /** Holds dumps and base backups. */
  readonly backups: pulumi.Output<string>;

  constructor(name: string, args: VolumeClaimsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("durable-postgres:index:VolumeClaims", name, {}, opts);

    const claim = (role: keyof typeof claimNames, hooks?: pulumi.ResourceHookBinding) =>
      new k8s.core.v1.PersistentVolumeClaim(
        claimNames[role],
        {
          metadata: {
            name: claimNames[role],
            namespace: args.namespace,
            labels: ownerLabels(args.retention.owner),
            // A class that waits for the first pod binds the claim only after it: nobody may wait for that here.
            annotations: { ...fieldManager, "pulumi.com/skipAwait": "true" },
          },
          spec: {
            accessModes: ["ReadWriteOnce"],
            resources: { requests: { storage: args.sizes[role] } },
            storageClassName: args.storageClass,
          },
        },
        retained(args.retention, claimKey(args.namespaceName, role), {
          parent: this,
          hooks,
          // The cluster fills these in. Not more: ignoring would let real edits pass in silence.
          ignoreChanges: ["spec.volumeName", ...(args.storageClass ? [] : ["spec.storageClassName"])],
        }),
      ).metadata.name;

    this.data = claim("data", { beforeDelete: [args.dataHook] });
    this.walArchive = claim("walArchive");
    this.backups = claim("backups");
    this.registerOutputs({ data: this.data, walArchive: this.walArchive, backups: this.backups });
  }
}

export function claimKey(namespace: string, role: keyof typeof claimNames): ObjectKey {
  return { kind: "PersistentVolumeClaim", name: claimNames[role], namespace };
}
