import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { UserError } from "./user-error";

const RETRY_MS = 500;

// The locks are flock(2)'s, on a descriptor of this process that flock(1)
// inherits: the kernel lets go of them however this process ends, so none is
// ever left behind.

/**
 * Holds an exclusive lock on `file` until the returned function is called or
 * this process ends.
 *
 * @param busy the sentence for the user when another process holds it
 */
export function holdLock(file: string, busy: string): () => void {
  const descriptor = openLock(file);
  if (!tryLock(descriptor)) throw new UserError(busy);
  return () => fs.closeSync(descriptor);
}

/** Like {@link holdLock}, but waits; `onWait` is called once if it has to. */
export async function waitForLock(file: string, onWait: () => void): Promise<() => void> {
  const descriptor = openLock(file);
  if (!tryLock(descriptor)) {
    onWait();
    while (!tryLock(descriptor)) await delay(RETRY_MS);
  }
  return () => fs.closeSync(descriptor);
}

function openLock(file: string): number {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  return fs.openSync(file, "a");
}

function tryLock(descriptor: number): boolean {
  const { status } = spawnSync("flock", ["--nonblock", "--conflict-exit-code", "9", "3"], {
    stdio: ["ignore", "ignore", "ignore", descriptor],
  });
  if (status !== 0 && status !== 9) {
    throw new UserError(
      "flock (of util-linux) does not work on this machine, and nothing is safe without locks: install it.",
    );
  }
  return status === 0;
}
