import * as os from "node:os";
import * as path from "node:path";

const NAME = "durable-postgres";

/** The root of this checkout. */
export const projectRoot = path.resolve(__dirname, "../..");

/**
 * What can be had again at the cost of time: built programs, images. Follows
 * the XDG base directory specification, as does {@link stateDir}.
 */
export function cacheDir(...segments: string[]): string {
  const base = process.env.XDG_CACHE_HOME || path.join(os.homedir(), ".cache");
  return path.join(base, NAME, ...segments);
}

/**
 * What cannot be had again: Pulumi's state and its passphrase, the sandbox
 * cluster's volumes. It outlives the checkout and the cache.
 */
export function stateDir(...segments: string[]): string {
  const base = process.env.XDG_STATE_HOME || path.join(os.homedir(), ".local", "state");
  return path.join(base, NAME, ...segments);
}
