import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { cacheDir } from "../lib/paths";

const MANIFEST = "manifest.json";

/** Size and modification time of every file, by its path in the artefact. */
type Manifest = Record<string, readonly [size: number, modified: number]>;

/**
 * A directory in the cache that is made once and then used as it is. Its name
 * carries a hash of everything it is made from, so that a change makes a new
 * one. It appears under its name only when it is complete; a file that has
 * changed since makes it count as damaged, and it is made again.
 */
export class Artefact {
  readonly directory: string;

  /**
   * @param name what it is, with its version, for example `pulumi-3.259.0`
   * @param inputs everything that its content depends on
   */
  constructor(
    readonly name: string,
    inputs: readonly string[],
  ) {
    const hash = createHash("sha256").update(JSON.stringify(inputs)).digest("hex").slice(0, 12);
    this.directory = cacheDir("built", `${name}-${hash}`);
  }

  /** Whether it is in the cache, complete and unchanged. */
  isPresent(): boolean {
    let manifest: Manifest;
    try {
      manifest = JSON.parse(fs.readFileSync(path.join(this.directory, MANIFEST), "utf8")) as Manifest;
    } catch {
      return false;
    }
    return Object.entries(manifest).every(([file, [size, modified]]) => {
      const found = fs.statSync(path.join(this.directory, file), { throwIfNoEntry: false });
      return found?.size === size && Math.floor(found.mtimeMs) === modified;
    });
  }

  /** Makes it by `fill`, which gets an empty directory; call only under the cache's lock. */
  async make(fill: (directory: string) => void | Promise<void>): Promise<void> {
    this.removeUnfinished();
    // Of a name of its own: a program that outlived a killed run cannot write into it.
    const unfinished = `${this.directory}.unfinished-${process.pid}`;
    fs.mkdirSync(unfinished, { recursive: true });
    try {
      await fill(unfinished);
    } catch (error) {
      fs.rmSync(unfinished, { recursive: true, force: true });
      throw error;
    }
    const manifest: Manifest = {};
    for (const entry of fs.readdirSync(unfinished, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const file = path.join(entry.parentPath, entry.name);
      const { size, mtimeMs } = fs.statSync(file);
      manifest[path.relative(unfinished, file)] = [size, Math.floor(mtimeMs)];
    }
    fs.writeFileSync(path.join(unfinished, MANIFEST), JSON.stringify(manifest));
    fs.rmSync(this.directory, { recursive: true, force: true });
    fs.renameSync(unfinished, this.directory);
  }

  private removeUnfinished(): void {
    const parent = path.dirname(this.directory);
    const prefix = `${path.basename(this.directory)}.unfinished`;
    for (const name of fs.existsSync(parent) ? fs.readdirSync(parent) : []) {
      if (name.startsWith(prefix)) fs.rmSync(path.join(parent, name), { recursive: true, force: true });
    }
  }
}

/** The content of every file below a directory, as inputs of an {@link Artefact}. */
export function contents(directory: string): string[] {
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort()
    .flatMap((file) => [path.relative(directory, file), fs.readFileSync(file, "utf8")]);
}
