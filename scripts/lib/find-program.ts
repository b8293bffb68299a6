import * as fs from "node:fs";
import * as path from "node:path";

/** The first executable of that name on a search path. */
export function findProgram(name: string, searchPath = process.env.PATH ?? ""): string | undefined {
  return searchPath
    .split(path.delimiter)
    .filter((directory) => directory !== "")
    .map((directory) => path.join(directory, name))
    .find((file) => {
      try {
        fs.accessSync(file, fs.constants.X_OK);
        return fs.statSync(file).isFile();
      } catch {
        return false;
      }
    });
}
