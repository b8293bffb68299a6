import * as os from "node:os";
import * as path from "node:path";
import { ApiException, BatchV1Api, CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import * as pulumi from "@pulumi/pulumi";
import type { Settings } from "./config";
import { importId, type ObjectKey, type ObjectMetadata, type Owner, refusal } from "./ownership";

/** How long an answer of the cluster may take. */
const timeoutMilliseconds = 20_000;

/** The existing objects that the stack takes over, by {@link importId}: see {@link Cluster.findRetained}. */
export type Imports = (key: ObjectKey) => string | undefined;

/** Read access to the cluster of a stack, through the one context that its configuration names. */
export class Cluster {
  constructor(
    private readonly kubeConfig: KubeConfig,
    private readonly context: string,
  ) {}

  /**
   * Looks up objects that outlive stacks. Those that exist are imported, so that a create over an existing object,
   * which provider versions treat differently, is never reached. Only a 404 means absent: taking a failed look-up
   * for one would plan a new, empty claim.
   *
   * @throws {pulumi.RunError} where an object belongs to another stack, to nobody, or is being deleted.
   */
  async findRetained(keys: readonly ObjectKey[], owner: Owner): Promise<Imports> {
    const found = new Set<string>();
    const identity = (key: ObjectKey) => `${key.kind} ${importId(key)}`;
    await Promise.all(
      keys.map(async (key) => {
        const metadata = await this.lookUp(identity(key), () => this.metadata(key));
        if (metadata === undefined) return;
        const reason = refusal(key, metadata, owner);
        if (reason !== undefined) throw new pulumi.RunError(reason);
        found.add(identity(key));
      }),
    );
    return (key) => (found.has(identity(key)) ? importId(key) : undefined);
  }

  /** The id of a Job that has succeeded; undefined where it does not exist, has failed or is still running. */
  async findSucceeded(namespace: string, job: string): Promise<string | undefined> {
    const api = this.kubeConfig.makeApiClient(BatchV1Api);
    const found = await this.lookUp(`Job ${namespace}/${job}`, () =>
      api.readNamespacedJob({ namespace, name: job }),
    );
    return (found?.status?.succeeded ?? 0) > 0 ? `${namespace}/${job}` : undefined;
  }

  private async metadata({ kind, name, namespace = "" }: ObjectKey): Promise<ObjectMetadata> {
    const api = this.kubeConfig.makeApiClient(CoreV1Api);
    switch (kind) {
      case "Namespace":
        return (await api.readNamespace({ name })).metadata ?? {};
      case "PersistentVolumeClaim":
        return (await api.readNamespacedPersistentVolumeClaim({ name, namespace })).metadata ?? {};
      case "Secret":
        return (await api.readNamespacedSecret({ name, namespace })).metadata ?? {};
    }
  }

  private async lookUp<T>(what: string, read: () => Promise<T>): Promise<T | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      const expire = () => reject(new Error(`no answer within ${timeoutMilliseconds / 1000} s`));
      timer = setTimeout(expire, timeoutMilliseconds);
    });
    try {
      return await Promise.race([read(), timeout]);
    } catch (error) {
      if (error instanceof ApiException && error.code === 404) return undefined;
      throw new pulumi.RunError(
        `Cannot tell whether ${what} exists (${explain(error)}), and nothing is done on a guess: check that context ` +
          `${this.context} reaches the cluster and may read the object, then run this again.`,
      );
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * The kubeconfig's entries of the configured context, and nothing else of it.
 *
 * @throws {pulumi.RunError} where the file or the context does not exist.
 */
export function loadKubeConfig(settings: Pick<Settings, "kubeconfig" | "kubeContext">): KubeConfig {
  const file = settings.kubeconfig?.replace(/^~(?=\/|$)/, os.homedir());
  const where = file ?? "the default kubeconfig ($KUBECONFIG, else ~/.kube/config)";
  const all = new KubeConfig();
  try {
    if (file === undefined) all.loadFromDefault();
    else all.loadFromFile(path.resolve(file));
  } catch (error) {
    throw new pulumi.RunError(
      `Cannot read ${where} (${explain(error)}): correct durable-postgres:kubeconfig or the file.`,
    );
  }

  const context = all.getContextObject(settings.kubeContext);
  const cluster = context && all.getCluster(context.cluster);
  if (!context || !cluster) {
    const known = all.getContexts().map(({ name }) => name);
    throw new pulumi.RunError(
      `Context ${settings.kubeContext} is not in ${where}, which knows ${known.join(", ") || "none"}: ` +
        "correct durable-postgres:kubeContext.",
    );
  }
  const user = all.getUser(context.user);
  const chosen = new KubeConfig();
  chosen.loadFromOptions({
    clusters: [cluster],
    users: user ? [user] : [],
    contexts: [context],
    currentContext: context.name,
  });
  return chosen;
}

function explain(error: unknown): string {
  if (error instanceof ApiException) return `HTTP ${error.code}`;
  if (!(error instanceof Error)) return String(error);
  // fetch says "fetch failed" and keeps what failed in the cause.
  const { cause } = error;
  const detail = cause instanceof Error ? cause.message || (cause as NodeJS.ErrnoException).code : undefined;
  return detail || error.message;
}
