import * as pulumi from "@pulumi/pulumi";
import {
  familyOf,
  type ImageFamily,
  imageFamilies,
  imageTag,
  majorVersionOf,
  type MajorVersion,
  majorVersions,
} from "./layout";
import { bytes, cpus } from "./quantity";

/** A stack's settings, complete and valid. `Pulumi.yaml` describes each, and holds the defaults. */
export interface Settings {
  readonly kubeContext: string;
  readonly kubeconfig?: string;
  readonly clusterIdentifier: string;
  readonly namespace: string;
  readonly image: string;
  readonly imageFamily: ImageFamily;
  readonly majorVersion: MajorVersion;
  readonly dataSize: string;
  readonly walArchiveSize: string;
  readonly backupSize: string;
  readonly storageClass?: string;
  readonly cpu: string;
  readonly memory: string;
  readonly protect: boolean;
}

/** Where the values come from: a `pulumi.Config`, or a table in a test. */
export interface ConfigSource {
  get(key: string): string | undefined;
}

/** Everything that is wrong with a stack's configuration, at once, each with its property's path. */
export class ConfigError extends pulumi.RunError {
  constructor(readonly errors: readonly pulumi.InputPropertyErrorDetails[]) {
    const lines = errors.map(({ propertyPath, reason }) => `  durable-postgres:${propertyPath} ${reason}`);
    super(`The stack's configuration is not valid, so nothing was changed:\n${lines.join("\n")}`);
  }
}

const dnsLabel = /^(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const dnsSubdomain = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const imageReference = /^[a-z0-9][-\w./:@]*$/;

/**
 * Reads and checks the settings of a stack. Pure.
 *
 * @throws {ConfigError} naming every problem, not only the first.
 */
export function readSettings(source: ConfigSource): Settings {
  const errors: pulumi.InputPropertyErrorDetails[] = [];
  const problem = (propertyPath: keyof Settings, reason: string) =>
    void errors.push({ propertyPath, reason });

  const optional = (key: keyof Settings) => source.get(key) || undefined;
  const required = (key: keyof Settings, why: string) => {
    const value = optional(key);
    if (value === undefined) problem(key, `is not set: ${why}; run \`pulumi config set ${key} VALUE\`.`);
    return value ?? "";
  };
  const size = (key: keyof Settings, minimum: string, why: string) => {
    const value = required(key, why);
    const amount = bytes(value);
    if (value && amount === undefined) {
      problem(key, `is "${value}", which is no size: write a whole number and a unit, such as ${minimum}.`);
    } else if (amount !== undefined && amount < bytes(minimum)!) {
      problem(key, `is ${value}, which is too small to work with: ${why}; give at least ${minimum}.`);
    }
    return value;
  };

  const image = required("image", "it is the PostgreSQL that runs");
  const settings = {
    kubeContext: required("kubeContext", "the current context is never taken unasked, it may be production"),
    kubeconfig: optional("kubeconfig"),
    clusterIdentifier: required(
      "clusterIdentifier",
      "without it a changed port or certificate would replace every object",
    ),
    namespace: required("namespace", "every object lives in it"),
    image,
    imageFamily: (optional("imageFamily") ?? familyOf(image)) as ImageFamily,
    majorVersion: Number(
      required("majorVersion", "it names the data directory on the claim"),
    ) as MajorVersion,
    dataSize: size("dataSize", "256Mi", "it holds the cluster and its WAL"),
    walArchiveSize: size("walArchiveSize", "128Mi", "it holds WAL segments of 16Mi each"),
    backupSize: size("backupSize", "128Mi", "it holds several backups of the cluster"),
    storageClass: optional("storageClass"),
    cpu: required("cpu", "a server without a request is the first to starve"),
    memory: size("memory", "256Mi", "the server is killed where it exceeds this"),
    protect: optional("protect") !== "false",
  } satisfies Settings;

  const { namespace, imageFamily, majorVersion, storageClass, cpu } = settings;
  if (namespace && !dnsLabel.test(namespace)) {
    problem(
      "namespace",
      `is "${namespace}", which is no namespace's name: use a-z, 0-9 and -, at most 63 of them.`,
    );
  } else if (namespace === "default" || namespace.startsWith("kube-")) {
    problem(
      "namespace",
      `is "${namespace}", which belongs to the cluster: give the database one of its own.`,
    );
  }
  if (storageClass && !dnsSubdomain.test(storageClass)) {
    problem(
      "storageClass",
      `is "${storageClass}", which is no class's name: see \`kubectl get storageclass\`.`,
    );
  }
  if (cpu && cpus(cpu) === undefined) {
    problem("cpu", `is "${cpu}", which is no amount of CPU: write for example 500m or 2.`);
  }
  if (optional("majorVersion") && !majorVersions.includes(majorVersion)) {
    problem("majorVersion", `is "${source.get("majorVersion")}": use one of ${majorVersions.join(", ")}.`);
  }

  if (!["true", "false", undefined].includes(optional("protect"))) {
    problem("protect", `is "${source.get("protect")}": use true or false.`);
  }

  const tagged = majorVersionOf(image);
  if (image && (!imageReference.test(image) || !(imageTag(image) || image.includes("@")))) {
    problem("image", `is "${image}": write name and tag or digest, such as docker.io/library/postgres:18.`);
  } else if (imageTag(image) === "latest") {
    problem(
      "image",
      `is "${image}", whose major version changes by itself, and the server with it: name one.`,
    );
  } else if (tagged !== undefined && majorVersions.includes(majorVersion) && tagged !== majorVersion) {
    problem(
      "image",
      `is "${image}", version ${tagged}, but majorVersion is ${majorVersion}, and a server refuses another ` +
        `version's data: make them agree.`,
    );
  } else if (image && imageFamily === undefined) {
    problem("imageFamily", `is not set and "${image}" has no tag to tell it: set debian or alpine.`);
  }
  if (optional("imageFamily") && !imageFamilies.includes(imageFamily)) {
    problem("imageFamily", `is "${imageFamily}": use ${imageFamilies.join(" or ")}, or leave it to the tag.`);
  }

  if (errors.length > 0) throw new ConfigError(errors);
  return settings;
}
