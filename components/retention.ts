import * as pulumi from "@pulumi/pulumi";

/** The provider's field manager is random by state; a fixed one stays owner of its fields when a state is lost. */
export const fieldManager = { "pulumi.com/patchFieldManager": "durable-postgres" };

/**
 * Options of an object that outlives stacks: a delete is refused, and one that is forced leaves the object where it
 * is. `importId` is set whenever the object exists, for good: the engine then refuses every replacement as well.
 */
export function retained(
  importId: string | undefined,
  options: pulumi.CustomResourceOptions,
): pulumi.CustomResourceOptions {
  return pulumi.mergeOptions({ protect: true, retainOnDelete: true, import: importId }, options);
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
