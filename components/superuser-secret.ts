import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { type ObjectKey, ownerLabels } from "./ownership";
import { fieldManager, type Retention, retained } from "./retention";

export const superuserSecretName = "postgres-superuser";

export interface SuperuserSecretArgs {
  /** Namespace of the Secret. */
  readonly namespace: pulumi.Input<string>;

  /** Its name, known at plan time, to find a Secret that exists. */
  readonly namespaceName: string;

  /** How the stack holds it. */
  readonly retention: Retention;
}

/**
 * The superuser's name and password. The Secret in the cluster is the truth and as durable as the data that it
 * opens: a password generated for a lost state changes nothing in an existing one.
 */
export class SuperuserSecret extends pulumi.ComponentResource {
  /** Name of the Secret; its keys are `username` and `password`. */
  readonly secretName: pulumi.Output<string>;

  constructor(name: string, args: SuperuserSecretArgs, opts?: pulumi.ComponentResourceOptions) {
    super("durable-postgres:index:SuperuserSecret", name, {}, opts);
    // Letters and digits only: it goes into connection URIs and files unquoted.
    const password = new random.RandomPassword(
      `${name}-password`,
      { length: 32, special: false },
      { parent: this },
    );
    const secret = new k8s.core.v1.Secret(
      superuserSecretName,
      {
        metadata: {
          name: superuserSecretName,
          namespace: args.namespace,
          labels: ownerLabels(args.retention.owner),
          annotations: fieldManager,
        },
        // Declared although it is the default: an import would otherwise plan a replacement.
        type: "Opaque",
        stringData: { username: "postgres", password: password.result },
      },
      retained(args.retention, superuserSecretKey(args.namespaceName), {
        parent: this,
        ignoreChanges: ["data", "stringData"],
      }),
    );
    this.secretName = secret.metadata.name;
    this.registerOutputs({ secretName: this.secretName });
  }
}

export function superuserSecretKey(namespace: string): ObjectKey {
  return { kind: "Secret", name: superuserSecretName, namespace };
}
