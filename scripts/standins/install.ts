import * as fs from "node:fs";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { version } from "@pulumi/random/package.json";

/**
 * Where the engine looks for plugins (Pulumi CLI 3.259): a language host
 * beside the CLI or on PATH, a provider in a folder of its own with the
 * version in its name.
 *
 * What is written is a small shell script that starts the stand-in of this
 * checkout with the given Node. It holds absolute paths, so a checkout that
 * was moved installs again; a script that is right already is left alone.
 */

/** Installs the Node language host into `dir`, the folder of the Pulumi CLI. */
export function installLanguageHost(dir: string, node: string): string {
  return install(path.join(dir, "pulumi-language-nodejs"), node, "language-host.ts");
}

/** Installs the random provider into `pluginsDir`, the folder `plugins` of PULUMI_HOME. */
export function installRandomProvider(pluginsDir: string, node: string): string {
  const folder = path.join(pluginsDir, `resource-random-v${version}`);
  return install(path.join(folder, "pulumi-resource-random"), node, "random-provider.ts");
}

function install(file: string, node: string, script: string): string {
  const loader = pathToFileURL(require.resolve("tsx")).href;
  const command = [node, "--import", loader, path.join(__dirname, script)].map(quote).join(" ");
  const text = `#!/bin/sh\n# Written by ${path.basename(__filename)}; rewritten when it differs.\nexec ${command} "$@"\n`;
  if (readIfPresent(file) === text) return file;

  fs.mkdirSync(path.dirname(file), { recursive: true });
  // Renamed into place, so that no engine ever starts half a script.
  const temporary = `${file}.${process.pid}`;
  fs.writeFileSync(temporary, text, { mode: 0o755 });
  fs.renameSync(temporary, file);
  return file;
}

function readIfPresent(file: string): string | undefined {
  try {
    return fs.readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** One word for the shell, whatever it contains. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
