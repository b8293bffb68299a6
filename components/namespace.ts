import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { type ObjectKey, ownerLabels } from "./ownership";
import { fieldManager, type Retention, retained } from "./retention";

export interface DatabaseNamespaceArgs {
  /** Name of the namespace. Another name is another, empty database. */
  readonly namespace: string;

  /** How the stack holds it. */
  readonly retention: Retention;
}

/** The namespace of all objects. It is kept like the claims, because a namespace takes its claims with it. */
export class DatabaseNamespace extends pulumi.ComponentResource {
  /** Name of the namespace, known once it exists. */
  readonly namespace: pulumi.Output<string>;

  constructor(name: string, args: DatabaseNamespaceArgs, opts?: pulumi.ComponentResourceOptions) {
    super("durable-postgres:index:DatabaseNamespace", name, {}, opts);
    const namespace = new k8s.core.v1.Namespace(
      args.namespace,
      {
        metadata: {
          name: args.namespace,
          annotations: fieldManager,
          labels: {
            ...ownerLabels(args.retention.owner),
            "pod-security.kubernetes.io/enforce": "restricted",
          },
        },
      },
      retained(args.retention, namespaceKey(args.namespace), { parent: this }),
    );
    this.namespace = namespace.metadata.name;
    this.registerOutputs({ namespace: this.namespace });
  }
}

export function namespaceKey(namespace: string): ObjectKey {
  return { kind: "Namespace", name: namespace };
}
