import * as pulumi from "@pulumi/pulumi";
import type { Imports } from "./cluster";
import type { ObjectKey, Owner } from "./ownership";

/** The provider's field manager is random by state; a fixed one stays owner of its fields when a state is lost. */
export const fieldManager = { "pulumi.com/patchFieldManager": "durable-postgres" };

/** How a stack holds the objects that outlive it. */
export interface Retention {
  /** Project and stack that they belong to. */
  readonly owner: Owner;

  /** Which of them exist and are imported. */
  readonly imports: Imports;

  /** Whether the engine refuses to take them out of the stack. */
  readonly protect: boolean;
}

/**
 * Options of an object that outlives stacks: a delete is refused, and one that is forced leaves the object where it
 * is. `import` is set whenever the object exists, for good: the engine then refuses every replacement as well.
 */
export function retained(
  { imports, protect }: Retention,
  key: ObjectKey,
  options: pulumi.CustomResourceOptions,
): pulumi.CustomResourceOptions {
  return pulumi.mergeOptions({ protect, retainOnDelete: true, import: imports(key) }, options);
}

/**
 * The hook on the data claim. Register it before anything else and in every run: the engine looks it up by name.
 *
 * That it exists makes `pulumi destroy` refuse to start, before the first deletion, unless it is given
 * `--run-program`. It does not refuse by itself: whoever has unprotected the claim and passed that flag means it,
 * a refusal at that point would leave a stack half destroyed, and `retainOnDelete` keeps the claim anyway.
 */
export function registerDataHook(): pulumi.ResourceHook {
  return new pulumi.ResourceHook("data-claim-outlives-the-stack", announceRetained);
}

/** Says what stays behind, and how it comes back. */
export async function announceRetained({ id }: pulumi.ResourceHookArgs): Promise<void> {
  await pulumi.log.warn(
    `The claim ${id} leaves the stack and stays in the cluster with its data; the next \`pulumi up\` imports it.`,
  );
}
