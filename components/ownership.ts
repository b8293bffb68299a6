/** Who a retained object belongs to: it is never taken by another. */
export interface Owner {
  readonly project: string;
  readonly stack: string;
}

const projectLabel = "durable-postgres/project";
const stackLabel = "durable-postgres/stack";

/** The labels by which an object tells its owner, also when Pulumi's state is lost. */
export function ownerLabels(owner: Owner): Record<string, string> {
  return { [projectLabel]: owner.project, [stackLabel]: owner.stack };
}

/** An object that outlives stacks, as the cluster knows it. Its namespace is left out for a Namespace. */
export interface ObjectKey {
  readonly kind: "Namespace" | "PersistentVolumeClaim" | "Secret";
  readonly name: string;
  readonly namespace?: string;
}

/** What is read of an existing object. */
export interface ObjectMetadata {
  readonly labels?: Readonly<Record<string, string>>;
  readonly deletionTimestamp?: Date | string;
}

/** The id by which the provider imports an object. */
export function importId({ name, namespace }: ObjectKey): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** Why `owner` may not take an existing object, as one sentence; undefined if it may. Pure. */
export function refusal(key: ObjectKey, metadata: ObjectMetadata, owner: Owner): string | undefined {
  const what = `${key.kind} ${importId(key)}`;
  if (metadata.deletionTimestamp !== undefined) {
    return `${what} is being deleted, and taking it would lose what it holds: save its data now, wait until it is gone, then run this again.`;
  }
  const project = metadata.labels?.[projectLabel];
  const stack = metadata.labels?.[stackLabel];
  if (project === owner.project && stack === owner.stack) return undefined;
  if (project !== undefined || stack !== undefined) {
    return `${what} belongs to stack ${stack} of project ${project}, not to stack ${owner.stack} of project ${owner.project}: choose another namespace for this stack.`;
  }
  const labels = Object.entries(ownerLabels(owner)).map(([label, value]) => `${label}=${value}`);
  const scope = key.namespace === undefined ? "" : ` -n ${key.namespace}`;
  return `${what} exists and nothing says that it belongs to this stack: if it does, run \`kubectl label ${key.kind.toLowerCase()} ${key.name}${scope} ${labels.join(" ")}\`, otherwise choose another namespace.`;
}
