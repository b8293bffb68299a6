import * as fs from "node:fs";
import { UserError } from "../lib/user-error";

/** What the node's own processes and one small database take, with room to spare, in bytes. */
const NODE_MEMORY = 1.5 * 2 ** 30;

/** @throws {UserError} where no sandbox cluster can run, whatever else is there */
export function requireLinuxRoot(): void {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    throw new UserError(
      "The sandbox cluster needs Linux and root, because it makes namespaces and mounts volumes: run it with sudo, or name a cluster of yours with --context NAME.",
    );
  }
}

/** @throws {UserError} where the node would have to fight for memory, of which `available` bytes are left */
export function requireMemory(available: number): void {
  if (available < NODE_MEMORY) {
    throw new UserError(
      `This machine has ${Math.floor(available / 2 ** 20)} MiB of memory available and the sandbox cluster needs ${NODE_MEMORY / 2 ** 20}: end other programs, or name a cluster elsewhere with --context NAME.`,
    );
  }
}

/** What the kernel can give without swapping; `os.freemem()` leaves out what it can take back from caches. */
export function availableMemory(): number {
  const line = /^MemAvailable:\s+(\d+) kB$/m.exec(fs.readFileSync("/proc/meminfo", "utf8"));
  return line ? Number(line[1]) * 1024 : Infinity;
}
