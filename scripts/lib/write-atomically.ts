import * as fs from "node:fs";

/** Writes a file that its owner alone can read; a kill leaves the old content or the new one. */
export function writeAtomically(file: string, content: string): void {
  fs.writeFileSync(`${file}.new`, content, { mode: 0o600 });
  fs.renameSync(`${file}.new`, file);
}
