import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { stateDir } from "../lib/paths";
import { UserError } from "../lib/user-error";

/**
 * One sandbox cluster: its name and where its parts lie. Everything that has to
 * outlive `down` is below {@link directory}; nothing else on the machine is its own.
 */
export class Instance {
  /** Directory with etcd, images, volumes, certificates and logs. */
  readonly directory: string;
  /** The kubeconfig with the instance's only context, {@link context}. */
  readonly kubeconfig: string;
  /** Name of the context in {@link kubeconfig}. */
  readonly context: string;
  /** Mark on the command line of the node's init, unique on the machine. */
  readonly mark: string;
  /** The cgroup that holds the instance's pods. */
  readonly cgroup: string;

  constructor(readonly name: string) {
    if (!/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/.test(name)) {
      throw new UserError(
        `"${name}" is no name for a sandbox cluster: use up to 32 lower-case letters, digits and hyphens, for example "dev".`,
      );
    }
    this.directory = stateDir("sandbox", name);
    this.kubeconfig = path.join(this.directory, "kubeconfig");
    this.context = `durable-postgres-${name}`;
    // Two home directories may each have an instance of the same name.
    const unique = createHash("sha256").update(this.directory).digest("hex").slice(0, 8);
    this.mark = `durable-postgres-sandbox-${name}-${unique}`;
    this.cgroup = this.mark;
  }

  /** A path below the instance's directory. */
  path(...segments: string[]): string {
    return path.join(this.directory, ...segments);
  }

  /** The port on 127.0.0.1 that the API server was last reached at. */
  get port(): number | undefined {
    try {
      return Number(fs.readFileSync(this.path("port"), "utf8")) || undefined;
    } catch {
      return undefined;
    }
  }

  set port(port: number) {
    fs.writeFileSync(this.path("port"), `${port}\n`);
  }
}
