import * as crypto from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

/** The in-pod scripts of the given names, by name. */
export function podScripts(...names: string[]): Record<string, string> {
  const folder = path.join(__dirname, "..", "scripts", "pod");
  return Object.fromEntries(names.map((name) => [name, fs.readFileSync(path.join(folder, name), "utf8")]));
}

/**
 * A ConfigMap that never changes: its name carries the content's hash, so that a new content is a new object, and
 * a running pod keeps the files that it was started with.
 */
export function mountedFiles(
  name: string,
  namespace: pulumi.Input<string>,
  files: Record<string, string>,
  opts: pulumi.CustomResourceOptions,
): pulumi.Output<string> {
  const hash = crypto.createHash("sha256").update(JSON.stringify(files)).digest("hex").slice(0, 10);
  const configMap = new k8s.core.v1.ConfigMap(
    name,
    { metadata: { name: `${name}-${hash}`, namespace }, data: files, immutable: true },
    opts,
  );
  return configMap.metadata.name;
}
